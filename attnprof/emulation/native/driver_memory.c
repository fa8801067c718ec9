/* libcuda.so.1: memory in the driver API, and virtual memory management, which PyTorch's expandable segments
   use: a program requests addresses and bytes separately and then maps the bytes to the addresses. */
#include "emulator.h"

#include <cuda.h>
#include <pthread.h>
#include <stdlib.h>

CUresult cuMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
  *free_bytes = emu_free_bytes();
  *total_bytes = emu_card()->total_bytes;
  return CUDA_SUCCESS;
}
CUresult cuMemAlloc(CUdeviceptr *address, size_t bytes) { return emu_allocate((void **)address, bytes); }
CUresult cuMemFree(CUdeviceptr address) { return emu_release((void *)address); }
CUresult cuMemGetAddressRange(CUdeviceptr *base, size_t *bytes, CUdeviceptr address) {
  return emu_find((void *)address, (void **)base, bytes) ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}
CUresult cuMemsetD32Async(CUdeviceptr address, unsigned value, size_t count, CUstream stream) {
  emu_set((void *)address, value, sizeof value, count);
  return CUDA_SUCCESS;
}

/* ---- virtual memory management ---------------------------------------------------------------------- */
typedef struct {
  size_t bytes;
  int holders; /* counts the handle and each mapping */
} Physical;

typedef struct Mapping {
  struct Mapping *next;
  CUdeviceptr address;
  Physical *physical;
} Mapping;

static Mapping *mappings;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void let_go(Physical *physical) {
  if (--physical->holders) return;
  emu_give(physical->bytes);
  free(physical);
}

CUresult cuMemGetAllocationGranularity(size_t *bytes, const CUmemAllocationProp *properties,
                                       CUmemAllocationGranularity_flags flags) {
  *bytes = EMU_GRANULE;
  return CUDA_SUCCESS;
}
CUresult cuMemAddressReserve(CUdeviceptr *address, size_t bytes, size_t alignment, CUdeviceptr wanted,
                             unsigned long long flags) {
  *address = (CUdeviceptr)emu_reserve_addresses(emu_round_up(bytes));
  return CUDA_SUCCESS;
}
CUresult cuMemAddressFree(CUdeviceptr address, size_t bytes) { return emu_free_addresses((void *)address); }
CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t bytes, const CUmemAllocationProp *properties,
                     unsigned long long flags) {
  size_t taken = emu_round_up(bytes);
  if (!emu_take(taken)) return CUDA_ERROR_OUT_OF_MEMORY;
  Physical *physical = malloc(sizeof *physical);
  *physical = (Physical){taken, 1};
  *handle = (CUmemGenericAllocationHandle)physical;
  return CUDA_SUCCESS;
}
CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  pthread_mutex_lock(&lock);
  let_go((Physical *)handle);
  pthread_mutex_unlock(&lock);
  return CUDA_SUCCESS;
}
CUresult cuMemMap(CUdeviceptr address, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,
                  unsigned long long flags) {
  Mapping *mapping = malloc(sizeof *mapping);
  pthread_mutex_lock(&lock);
  *mapping = (Mapping){mappings, address, (Physical *)handle};
  mapping->physical->holders++;
  mappings = mapping;
  pthread_mutex_unlock(&lock);
  return CUDA_SUCCESS;
}
CUresult cuMemUnmap(CUdeviceptr address, size_t bytes) {
  pthread_mutex_lock(&lock);
  for (Mapping **at = &mappings; *at;) {
    Mapping *mapping = *at;
    if (mapping->address < address || mapping->address >= address + bytes) {
      at = &mapping->next;
      continue;
    }
    *at = mapping->next;
    let_go(mapping->physical);
    free(mapping);
  }
  pthread_mutex_unlock(&lock);
  return CUDA_SUCCESS;
}
CUresult cuMemSetAccess(CUdeviceptr address, size_t bytes, const CUmemAccessDesc *access, size_t count) {
  return CUDA_SUCCESS;
}
