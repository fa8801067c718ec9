/* libcuda.so.1: the card's memory. Bytes are counted against the card's total. Addresses are reserved so that
   none is handed out twice, but they cannot be read or written. */
#include "emulator.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* The bytes by which cudaMalloc of 1 byte lowers the free memory of cudaMemGetInfo. PyTorch's allocator requests
   multiples of it (kRoundLarge, c10/core/AllocatorConfig.h). cuMemGetAllocationGranularity returns it too. */
const size_t EMU_GRANULE = 2u << 20;
enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2 };

typedef struct Range {
  struct Range *next;
  char *base;
  size_t bytes;
  int kind;
} Range;

static Range *ranges;
static size_t used; /* excludes the context */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

size_t emu_round_up(size_t bytes) { return (bytes + EMU_GRANULE - 1) / EMU_GRANULE * EMU_GRANULE; }
size_t emu_used_bytes(void) { return used + emu_card()->context_bytes; }
size_t emu_free_bytes(void) {
  size_t total = emu_card()->total_bytes, taken = emu_used_bytes();
  return total > taken ? total - taken : 0;
}

int emu_take(size_t bytes) {
  pthread_mutex_lock(&lock);
  int fits = bytes <= emu_free_bytes();
  if (fits) used += bytes;
  pthread_mutex_unlock(&lock);
  return fits;
}

void emu_give(size_t bytes) {
  pthread_mutex_lock(&lock);
  used -= bytes;
  pthread_mutex_unlock(&lock);
}

static void add(void *base, size_t bytes, int kind) {
  Range *range = malloc(sizeof *range);
  pthread_mutex_lock(&lock);
  *range = (Range){ranges, base, bytes, kind};
  ranges = range;
  pthread_mutex_unlock(&lock);
}

/* Remove the range that starts at `base` from the list. Return its kind, and write its size to *bytes. */
static int drop(void *base, size_t *bytes) {
  int kind = EMU_NOWHERE;
  pthread_mutex_lock(&lock);
  for (Range **at = &ranges; *at; at = &(*at)->next) {
    if ((*at)->base != base) continue;
    Range *found = *at;
    kind = found->kind;
    *bytes = found->bytes;
    *at = found->next;
    free(found);
    break;
  }
  pthread_mutex_unlock(&lock);
  return kind;
}

int emu_find(const void *address, void **base, size_t *bytes) {
  int kind = EMU_NOWHERE;
  pthread_mutex_lock(&lock);
  for (Range *at = ranges; at; at = at->next) {
    if ((const char *)address < at->base || (const char *)address >= at->base + at->bytes) continue;
    kind = at->kind;
    if (base) *base = at->base;
    if (bytes) *bytes = at->bytes;
    break;
  }
  pthread_mutex_unlock(&lock);
  return kind;
}

void *emu_reserve_addresses(size_t bytes) {
  void *base = emu_map_addresses(bytes);
  add(base, bytes, EMU_DEVICE);
  emu_add_shadow(base, bytes);
  return base;
}

int emu_free_addresses(void *address) {
  size_t bytes;
  if (drop(address, &bytes) != EMU_DEVICE) return INVALID_VALUE;
  emu_drop_shadow(address);
  emu_unmap_addresses(address, bytes);
  return OK;
}

int emu_allocate(void **address, size_t bytes) {
  *address = NULL;
  if (!bytes) return OK;
  size_t taken = emu_round_up(bytes);
  int fits = emu_take(taken);
  emu_trace(1, "allocate %zu bytes: %s, %zu in use", bytes, fits ? "ok" : "out of memory", emu_used_bytes());
  if (!fits) return OUT_OF_MEMORY;
  *address = emu_reserve_addresses(taken);
  return OK;
}

int emu_release(void *address) {
  if (!address) return OK;
  size_t bytes = 0;
  switch (drop(address, &bytes)) {
    case EMU_DEVICE:
      emu_drop_shadow(address);
      emu_unmap_addresses(address, bytes);
      emu_give(bytes);
      emu_trace(1, "release %zu bytes: %zu in use", bytes, emu_used_bytes());
      return OK;
    case EMU_HOST: free(address); return OK;
    case EMU_REGISTERED: return OK;
    default: return INVALID_VALUE;
  }
}

int emu_allocate_host(void **address, size_t bytes) {
  if (posix_memalign(address, 4096, bytes ? bytes : 1)) return OUT_OF_MEMORY;
  add(*address, bytes, EMU_HOST);
  return OK;
}

void emu_register_host(void *address, size_t bytes) { add(address, bytes, EMU_REGISTERED); }

void emu_copy(void *to, const void *from, size_t bytes) {
  int from_device = emu_find(from, NULL, NULL) == EMU_DEVICE;
  if (emu_find(to, NULL, NULL) == EMU_DEVICE) emu_copy_to_device(to, from, bytes, from_device);
  else if (from_device) emu_copy_from_device(to, from, bytes);
  else memmove(to, from, bytes);
}
