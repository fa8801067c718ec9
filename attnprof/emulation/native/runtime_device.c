/* libcudart: errors, the device and its properties. */
#include "runtime.h"

#include <stdio.h>
#include <string.h>

/* ---- errors ----------------------------------------------------------------------------------------- */
static __thread cudaError_t last_error;

cudaError_t rt_return(int status) {
  if (status) last_error = status;
  return status;
}
cudaError_t cudaGetLastError(void) {
  cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}
cudaError_t cudaPeekAtLastError(void) { return last_error; }

/* The texts are those of the CUDA runtime's documentation, "Data types used by CUDA Runtime". */
#define ERRORS(_) \
  _(cudaSuccess, "no error") \
  _(cudaErrorInvalidValue, "invalid argument") \
  _(cudaErrorMemoryAllocation, "out of memory") \
  _(cudaErrorInvalidConfiguration, "invalid configuration argument") \
  _(cudaErrorInvalidDeviceFunction, "invalid device function") \
  _(cudaErrorInvalidDevice, "invalid device ordinal") \
  _(cudaErrorNoKernelImageForDevice, "no kernel image is available for execution on the device") \
  _(cudaErrorInvalidResourceHandle, "invalid resource handle") \
  _(cudaErrorNotSupported, "operation not supported")
const char *cudaGetErrorString(cudaError_t error) {
  switch (error) {
#define STRING(name, text) \
  case name: return text;
    ERRORS(STRING)
    default: return "unrecognized error code";
  }
}
const char *cudaGetErrorName(cudaError_t error) {
  switch (error) {
#define NAME(name, text) \
  case name: return #name;
    ERRORS(NAME)
    default: return "unrecognized error code";
  }
}

/* ---- device ----------------------------------------------------------------------------------------- */
cudaError_t cudaGetDeviceCount(int *count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int *device) {
  emu_load_values(); /* PyTorch calls this when it initialises CUDA: all of its operators are there by now */
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) { return rt_return(device ? cudaErrorInvalidDevice : cudaSuccess); }
cudaError_t cudaDeviceSynchronize(void) { return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int *version) {
  *version = CUDA_VERSION;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
  *value = emu_attribute(attribute);
  return cudaSuccess;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
  if (least) *least = 0;
  if (greatest) *greatest = -5;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char *id, int size, int device) {
  snprintf(id, size, "0000:00:04.0");
  return cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer) {
  *can = 0;
  return cudaSuccess;
}
cudaError_t cudaProfilerStart(void) { return cudaSuccess; }
cudaError_t cudaProfilerStop(void) { return cudaSuccess; }

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device) {
  if (device) return rt_return(cudaErrorInvalidDevice);
  const Card *card = emu_card();
#define ATTRIBUTE(name) emu_attribute(CU_DEVICE_ATTRIBUTE_##name)
  *properties = (struct cudaDeviceProp){
      .major = card->major,
      .minor = card->minor,
      .totalGlobalMem = card->total_bytes,
      .multiProcessorCount = card->multiprocessors,
      .maxThreadsPerMultiProcessor = card->threads_per_multiprocessor,
      .maxBlocksPerMultiProcessor = card->blocks_per_multiprocessor,
      .regsPerMultiprocessor = card->registers_per_multiprocessor,
      .regsPerBlock = ATTRIBUTE(MAX_REGISTERS_PER_BLOCK),
      .sharedMemPerMultiprocessor = ATTRIBUTE(MAX_SHARED_MEMORY_PER_MULTIPROCESSOR),
      .sharedMemPerBlockOptin = ATTRIBUTE(MAX_SHARED_MEMORY_PER_BLOCK_OPTIN),
      .sharedMemPerBlock = ATTRIBUTE(MAX_SHARED_MEMORY_PER_BLOCK),
      .reservedSharedMemPerBlock = ATTRIBUTE(RESERVED_SHARED_MEMORY_PER_BLOCK),
      .l2CacheSize = ATTRIBUTE(L2_CACHE_SIZE),
      .memoryBusWidth = card->memory_bus_bits,
#if CUDART_VERSION < 13000
      .clockRate = ATTRIBUTE(CLOCK_RATE),
      .memoryClockRate = ATTRIBUTE(MEMORY_CLOCK_RATE),
#endif
      .maxThreadsPerBlock = ATTRIBUTE(MAX_THREADS_PER_BLOCK),
      .maxThreadsDim = {ATTRIBUTE(MAX_BLOCK_DIM_X), ATTRIBUTE(MAX_BLOCK_DIM_Y), ATTRIBUTE(MAX_BLOCK_DIM_Z)},
      .maxGridSize = {ATTRIBUTE(MAX_GRID_DIM_X), ATTRIBUTE(MAX_GRID_DIM_Y), ATTRIBUTE(MAX_GRID_DIM_Z)},
      .warpSize = ATTRIBUTE(WARP_SIZE),
      .totalConstMem = ATTRIBUTE(TOTAL_CONSTANT_MEMORY),
      .memPitch = ATTRIBUTE(MAX_PITCH),
      .textureAlignment = ATTRIBUTE(TEXTURE_ALIGNMENT),
      .texturePitchAlignment = 32,
      .surfaceAlignment = 512,
      .pciBusID = ATTRIBUTE(PCI_BUS_ID),
      .asyncEngineCount = ATTRIBUTE(ASYNC_ENGINE_COUNT),
      .clusterLaunch = ATTRIBUTE(CLUSTER_LAUNCH),
      .unifiedAddressing = 1,
      .canMapHostMemory = 1,
      .hostRegisterSupported = 1,
      .memoryPoolsSupported = 1,
      .streamPrioritiesSupported = 1,
      .concurrentKernels = 1,
      .cooperativeLaunch = 1,
      .globalL1CacheSupported = 1,
      .localL1CacheSupported = 1,
  };
  snprintf(properties->name, sizeof properties->name, "%s", card->name);
  memset(&properties->uuid, 0xfa, sizeof properties->uuid);
  return cudaSuccess;
}

/* ---- entry points ----------------------------------------------------------------------------------- */
cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version,
                                             unsigned long long flags, enum cudaDriverEntryPointQueryResult *result) {
  CUresult status = cuGetProcAddress(name, function, version, flags, NULL);
  if (result) *result = status ? cudaDriverEntryPointSymbolNotFound : cudaDriverEntryPointSuccess;
  return cudaSuccess;
}
#if CUDART_VERSION < 13000
cudaError_t cudaGetDriverEntryPoint(const char *name, void **function, unsigned long long flags,
                                    enum cudaDriverEntryPointQueryResult *result) {
  return cudaGetDriverEntryPointByVersion(name, function, CUDART_VERSION, flags, result);
}
#endif
