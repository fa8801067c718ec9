/* What the files of our libcudart share. */
#pragma once
#include "emulator.h"

#include <cuda.h>
#include <cuda_runtime_api.h>

cudaError_t rt_return(int status); /* remembers an error for cudaGetLastError */
void rt_launched(void);            /* a kernel: a node of the graph, if one is being captured */
