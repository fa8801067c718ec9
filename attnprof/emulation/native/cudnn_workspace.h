/* The workspaces that cuDNN's plans are run with. */
#pragma once
#include "emulator.h"

#include <cudnn.h>

void workspace_of_operation(cudnnBackendDescriptorType_t type); /* of a descriptor that this thread made */
void workspace_add(void *plan);                                 /* of a new plan for the last operation */
void workspace_set(void *address);                              /* of the variant pack that is to be run next */
void workspace_run(void *plan, int64_t bytes);
