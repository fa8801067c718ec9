/* libcuda.so.1: device, context, pointers, errors and entry points of the driver API. */
#define _GNU_SOURCE
#include "emulator.h"

#include <cuda.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static char the_context[64];

/* ---- device and context: there is one of each ------------------------------------------------------- */
CUresult cuInit(unsigned flags) { return CUDA_SUCCESS; }
CUresult cuDriverGetVersion(int *version) {
  *version = CUDA_VERSION;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetCount(int *count) {
  *count = 1;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGet(CUdevice *device, int index) {
  *device = index;
  return index ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}
CUresult cuDeviceGetName(char *name, int size, CUdevice device) {
  snprintf(name, size, "%s", emu_card()->name);
  return CUDA_SUCCESS;
}
CUresult cuDeviceTotalMem(size_t *bytes, CUdevice device) {
  *bytes = emu_card()->total_bytes;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
  *value = emu_attribute(attribute);
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device) {
  memset(uuid, 0xfa, sizeof *uuid);
  return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  *context = (CUcontext)the_context;
  return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease(CUdevice device) { return CUDA_SUCCESS; }
CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
  *flags = 0;
  *active = 1;
  return CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext *context) {
  *context = (CUcontext)the_context;
  return CUDA_SUCCESS;
}
CUresult cuCtxSetCurrent(CUcontext context) { return CUDA_SUCCESS; }
CUresult cuCtxPushCurrent(CUcontext context) { return CUDA_SUCCESS; }
CUresult cuCtxPopCurrent(CUcontext *context) { return cuCtxGetCurrent(context); }
CUresult cuCtxGetDevice(CUdevice *device) {
  *device = 0;
  return CUDA_SUCCESS;
}
CUresult cuCtxSynchronize(void) { return CUDA_SUCCESS; }

/* ---- pointers --------------------------------------------------------------------------------------- */
CUresult cuPointerGetAttribute(void *value, CUpointer_attribute attribute, CUdeviceptr address) {
  int kind = emu_find((void *)address, NULL, NULL);
  if (kind == EMU_NOWHERE) return CUDA_ERROR_INVALID_VALUE;
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
      *(unsigned *)value = kind == EMU_DEVICE ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST;
      return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_CONTEXT: return cuCtxGetCurrent(value);
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL: *(int *)value = 0; return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
    case CU_POINTER_ATTRIBUTE_HOST_POINTER: *(CUdeviceptr *)value = address; return CUDA_SUCCESS;
    default: return emu_unknown("cuPointerGetAttribute of this attribute", CUDA_ERROR_NOT_SUPPORTED);
  }
}

/* ---- errors ----------------------------------------------------------------------------------------- */
CUresult cuGetErrorString(CUresult status, const char **text) {
  *text = status == CUDA_SUCCESS               ? "no error"
          : status == CUDA_ERROR_OUT_OF_MEMORY ? "out of memory"
          : status == CUDA_ERROR_NOT_SUPPORTED ? "operation not supported"
                                               : "error on the emulated device";
  return CUDA_SUCCESS;
}
CUresult cuGetErrorName(CUresult status, const char **text) {
  *text = status == CUDA_SUCCESS               ? "CUDA_SUCCESS"
          : status == CUDA_ERROR_OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY"
          : status == CUDA_ERROR_NOT_SUPPORTED ? "CUDA_ERROR_NOT_SUPPORTED"
                                               : "CUDA_ERROR_UNKNOWN";
  return CUDA_SUCCESS;
}

/* ---- entry points ----------------------------------------------------------------------------------- */
/* Undocumented tables: there are none. NCCL, cuSPARSE and cuSOLVER bring a CUDA runtime of their own, which is linked
   into them, asks for one and gives up. The library of values stands in for cuSOLVER where it can, and tells where not. */
CUresult cuGetExportTable(const void **table, const CUuuid *id) {
  Dl_info caller;
  if (dladdr(__builtin_return_address(0), &caller) && caller.dli_fname) {
    const char *slash = strrchr(caller.dli_fname, '/');
    const char *name = slash ? slash + 1 : caller.dli_fname;
    if (!strncmp(name, "libnccl", 7) || !strncmp(name, "libcusparse", 11) ||
        (!strncmp(name, "libcusolver", 11) && !attnprof_values_on())) {
      emu_unknown(name, 0);
    }
  }
  *table = NULL;
  return CUDA_ERROR_NOT_FOUND;
}
CUresult cuGetProcAddress(const char *name, void **function, int version, cuuint64_t flags,
                          CUdriverProcAddressQueryResult *result) {
  static void *library;
  if (!library) library = dlopen("libcuda.so.1", RTLD_LAZY);
  char newer[256];
  snprintf(newer, sizeof newer, "%s_v2", name);
  *function = dlsym(library, newer);
  if (!*function) *function = dlsym(library, name);
  if (result) *result = *function ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
  return *function ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}
#if CUDA_VERSION >= 12090 /* the release that introduced these */
CUresult cuLogsRegisterCallback(CUlogsCallback callback, void *data, CUlogsCallbackHandle *handle) {
  if (handle) *handle = (CUlogsCallbackHandle)the_context;
  return CUDA_SUCCESS;
}
CUresult cuLogsUnregisterCallback(CUlogsCallbackHandle handle) { return CUDA_SUCCESS; }
#endif
