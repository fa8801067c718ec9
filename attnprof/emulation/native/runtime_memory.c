/* libcudart: memory. What is written to the device, and read from it, is the shadow of its small values. */
#include "runtime.h"

#include <stdint.h>

cudaError_t cudaMalloc(void **address, size_t bytes) { return rt_return(emu_allocate(address, bytes)); }
cudaError_t cudaFree(void *address) { return rt_return(emu_release(address)); }
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
  *free_bytes = emu_free_bytes();
  *total_bytes = emu_card()->total_bytes;
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void **address, size_t bytes, unsigned flags) {
  return rt_return(emu_allocate_host(address, bytes));
}
cudaError_t cudaFreeHost(void *address) { return rt_return(emu_release(address)); }
cudaError_t cudaHostRegister(void *address, size_t bytes, unsigned flags) {
  emu_register_host(address, bytes);
  return cudaSuccess;
}
cudaError_t cudaHostUnregister(void *address) { return rt_return(emu_release(address)); }

cudaError_t cudaMemset(void *address, int value, size_t bytes) {
  emu_set(address, (unsigned char)value, 1, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void *address, int value, size_t bytes, cudaStream_t stream) {
  return cudaMemset(address, value, bytes);
}
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind) {
  emu_copy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream) {
  return cudaMemcpy(to, from, bytes, kind);
}
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, enum cudaMemcpyKind kind, cudaStream_t stream) {
  for (size_t row = 0; row < height; row++)
    emu_copy((char *)to + row * to_pitch, (const char *)from + row * from_pitch, width);
  return cudaSuccess;
}
cudaError_t cudaMemcpyToSymbol(const void *symbol, const void *from, size_t bytes, size_t offset,
                               enum cudaMemcpyKind kind) {
  return cudaSuccess;
}
cudaError_t cudaGetSymbolAddress(void **address, const void *symbol) {
  *address = (void *)symbol;
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *attributes, const void *address) {
  int kind = emu_find(address, NULL, NULL);
  *attributes = (struct cudaPointerAttributes){
      .type = kind == EMU_DEVICE    ? cudaMemoryTypeDevice
              : kind == EMU_NOWHERE ? cudaMemoryTypeUnregistered
                                    : cudaMemoryTypeHost,
      .device = kind == EMU_NOWHERE ? cudaInvalidDeviceId : 0,
      .devicePointer = kind == EMU_NOWHERE ? NULL : (void *)address,
      .hostPointer = kind == EMU_DEVICE ? NULL : (void *)address,
  };
  return cudaSuccess;
}

/* ---- stream-ordered pools: every allocation goes directly to the device ----------------------------- */
cudaError_t cudaMallocAsync(void **address, size_t bytes, cudaStream_t stream) {
  emu_assume("cudaMallocAsync's pool keeps nothing");
  return cudaMalloc(address, bytes);
}
cudaError_t cudaFreeAsync(void *address, cudaStream_t stream) { return cudaFree(address); }
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *pool, int device) {
  static char the_pool[8];
  *pool = (cudaMemPool_t)the_pool;
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, enum cudaMemPoolAttr attribute, void *value) {
  return cudaSuccess;
}
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, enum cudaMemPoolAttr attribute, void *value) {
  *(uint64_t *)value = emu_used_bytes();
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAccess(cudaMemPool_t pool, const struct cudaMemAccessDesc *access, size_t count) {
  return cudaSuccess;
}
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, size_t bytes) { return cudaSuccess; }
cudaError_t cudaDeviceGetGraphMemAttribute(int device, enum cudaGraphMemAttributeType attribute, void *value) {
  *(uint64_t *)value = 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceSetGraphMemAttribute(int device, enum cudaGraphMemAttributeType attribute, void *value) {
  return cudaSuccess;
}
