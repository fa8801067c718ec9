/* libcuda.so.1: the addresses of device memory. PyTorch's allocator prefers the lower of two free blocks of one size,
   so the order of addresses decides how much it reserves. Snapshots of PyTorch's allocator on real cards show the
   driver's order: ascending, without gaps, and what was freed is filled from the lowest address on. */
#define _GNU_SOURCE
#include "emulator.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000 /* Linux 4.17; an older kernel takes the address as a hint */
#endif

/* The range from which addresses are given, so that every run gets the same ones. Linux puts the program, its heap,
   libraries and stacks at random places above it (x86-64: ELF_ET_DYN_BASE and mmap_base). Only what is handed out is
   mapped: a limit on addresses (`ulimit -v`) counts no more than that. */
static const size_t FIRST = 0x100000000000, END = 0x540000000000, STRIDE = (size_t)1 << 40;

typedef struct Hole {
  struct Hole *next; /* at a higher address */
  size_t start, end;
} Hole;

static Hole *holes;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static Hole *new_hole(size_t start, size_t end, Hole *next) {
  Hole *made = malloc(sizeof *made);
  *made = (Hole){next, start, end};
  return made;
}

__attribute__((constructor)) static void begin(void) { holes = new_hole(FIRST, END, NULL); }

static char *map(size_t start, size_t bytes, int flags) {
  char *base = mmap((void *)start, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
  return base == MAP_FAILED ? NULL : base;
}

/* Map addresses within a hole. If something else of the process is there, go on behind the next multiple of STRIDE. */
static size_t map_within(const Hole *hole, size_t bytes) {
  for (size_t start = hole->start; start < hole->end && bytes <= hole->end - start;
       start = (start / STRIDE + 1) * STRIDE) {
    char *base = map(start, bytes, MAP_FIXED_NOREPLACE);
    if ((size_t)base == start) return start;
    if (base) munmap(base, bytes);
  }
  return 0;
}

/* Take a range, which lies within the hole at *at, out of it. */
static void cut(Hole **at, size_t start, size_t end) {
  Hole *hole = *at;
  if (end < hole->end) hole->next = new_hole(end, hole->end, hole->next);
  hole->end = start;
  if (hole->start < start) return;
  *at = hole->next;
  free(hole);
}

/* Map addresses of the kernel's choice, aligned to a granule as those of a real card are. */
static char *map_anywhere(size_t bytes) {
  char *start = map(0, bytes + EMU_GRANULE, 0);
  if (!start) {
    perror("attnprof emulation: cannot reserve addresses (see ulimit -v)");
    abort();
  }
  char *base = (char *)emu_round_up((size_t)start);
  if (base > start) munmap(start, base - start);
  munmap(base + bytes, start + EMU_GRANULE - base);
  return base;
}

void *emu_map_addresses(size_t bytes) {
  size_t start = 0;
  pthread_mutex_lock(&lock);
  for (Hole **at = &holes; *at; at = &(*at)->next) {
    start = map_within(*at, bytes);
    if (!start) continue;
    cut(at, start, start + bytes);
    break;
  }
  pthread_mutex_unlock(&lock);
  return start ? (void *)start : map_anywhere(bytes);
}

void emu_unmap_addresses(void *base, size_t bytes) {
  size_t start = (size_t)base, end = start + bytes;
  munmap(base, bytes);
  if (start < FIRST || end > END) return;
  pthread_mutex_lock(&lock);
  Hole *before = NULL, *after = holes;
  while (after && after->start < start) before = after, after = after->next;
  if (after && after->start == end) {
    after->start = start;
  } else {
    after = new_hole(start, end, after);
    *(before ? &before->next : &holes) = after;
  }
  if (before && before->end == start) {
    before->end = after->end;
    before->next = after->next;
    free(after);
  }
  pthread_mutex_unlock(&lock);
}
