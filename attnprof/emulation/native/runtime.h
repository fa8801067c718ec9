/* The interface that the files of our libcudart share. */
#pragma once
#include "emulator.h"

#include <cuda.h>
#include <cuda_runtime_api.h>

cudaError_t rt_return(int status); /* stores an error for cudaGetLastError; returns it */
void rt_launched(void);            /* counts a kernel on the clock, and as a graph node if a capture is active */
