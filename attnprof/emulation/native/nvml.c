/* libnvidia-ml.so.1: one device, and this process on it. PyTorch's out-of-memory message and Python's pynvml
   read it. The prototypes are those of nvml.h, which torch's packages do not include. */
#include "emulator.h"

#include <cuda.h>
#include <stdio.h>
#include <unistd.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7 };

typedef struct {
  unsigned pid;
  unsigned long long used_bytes;
} ProcessV1;
typedef struct {
  unsigned pid;
  unsigned long long used_bytes;
  unsigned gpu_instance, compute_instance;
} Process;
typedef struct {
  unsigned long long total, free, used;
} MemoryInfo;

int nvmlInit_v2(void) { return SUCCESS; }
int nvmlInit(void) { return SUCCESS; }
int nvmlInitWithFlags(unsigned flags) { return SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int status) { return status ? "Not Supported" : "The operation was successful"; }
int nvmlDeviceGetCount_v2(unsigned *count) {
  *count = 1;
  return SUCCESS;
}
int nvmlSystemGetCudaDriverVersion_v2(int *version) {
  *version = CUDA_VERSION;
  return SUCCESS;
}
int nvmlSystemGetDriverVersion(char *version, unsigned size) {
  snprintf(version, size, "emulated");
  return SUCCESS;
}

static int the_device(void **device) {
  *device = (void *)1;
  return SUCCESS;
}
int nvmlDeviceGetHandleByPciBusId_v2(const char *id, void **device) { return the_device(device); }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { return the_device(device); }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) { return the_device(device); }
int nvmlDeviceGetUUID(void *device, char *uuid, unsigned size) {
  snprintf(uuid, size, "GPU-fafafafa-fafa-fafa-fafa-fafafafafafa");
  return SUCCESS;
}
int nvmlDeviceGetName(void *device, char *name, unsigned size) {
  snprintf(name, size, "%s", emu_card()->name);
  return SUCCESS;
}
int nvmlDeviceGetMemoryInfo(void *device, MemoryInfo *memory) {
  *memory = (MemoryInfo){emu_card()->total_bytes, emu_free_bytes(), emu_used_bytes()};
  return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses(void *device, unsigned *count, ProcessV1 *processes) {
  unsigned room = *count;
  *count = 1;
  if (!room) return INSUFFICIENT_SIZE;
  processes[0] = (ProcessV1){getpid(), emu_used_bytes()};
  return SUCCESS;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, Process *processes) {
  unsigned room = *count;
  *count = 1;
  if (!room) return INSUFFICIENT_SIZE;
  processes[0] = (Process){getpid(), emu_used_bytes(), ~0u, ~0u};
  return SUCCESS;
}

int nvmlDeviceGetNvLinkRemoteDeviceType(void) { return NOT_SUPPORTED; }
int nvmlDeviceGetNvLinkRemotePciInfo_v2(void) { return NOT_SUPPORTED; }
int nvmlDeviceGetGpuFabricInfoV(void) { return NOT_SUPPORTED; }
