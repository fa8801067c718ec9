/* libcuda.so.1: the values of small pieces of device memory. A shadow on the host holds what copies and memsets put
   there and what the library of values (values/) computes. Device memory itself cannot be touched.

   Each block of 512 bytes has a level, which says how far its values can be trusted. PyTorch's allocator hands out
   memory in multiples of such blocks (kMinBlockSize, c10/core/AllocatorConfig.h), so no two tensors share one. */
#define _GNU_SOURCE
#include "emulator.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { BLOCK_BYTES = 512, PAGE_BYTES = 4096, PIECE_BYTES = 2 << 20, KEEP_BYTES = 64 << 10 };

typedef struct {
  char *base; /* on the device */
  size_t bytes;
  char *shadow;
  unsigned char *levels;  /* one for each block */
  unsigned char *touched; /* flags for each piece */
} Shadow;

enum { WRITABLE = 1, LEVELLED = 2 }; /* flags: its bytes can be written; a block of it has a level */

static Shadow *shadows; /* in ascending order of base */
static size_t count, room;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- the library of values -------------------------------------------------------------------------- */
static const ValueCalls *calls;
static __thread int operators; /* that run on this thread with all their launches accounted for */

static void load(void) {
  const char *path = getenv("ATTNPROF_VALUES"), *why = getenv("ATTNPROF_NO_VALUES");
  if (why) {
    char line[512];
    snprintf(line, sizeof line, "all values on the card are zeros: %s", why);
    emu_assume(line);
  }
  if (!path) return;
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  const ValueCalls *(*start)(void) = library ? dlsym(library, "attnprof_values_start") : NULL;
  calls = start ? start() : NULL;
  if (!calls) emu_assume("all values on the card are zeros: the library of values does not load here");
}

void emu_load_values(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, load);
}
int attnprof_values_on(void) { return calls != NULL; }
void attnprof_enter_operator(int change) { operators += change; }
void attnprof_unknown(const char *what) { emu_unknown(what, 0); }
void attnprof_assume(const char *what) { emu_assume(what); }

/* ---- ranges ----------------------------------------------------------------------------------------- */
static void *reserve(size_t bytes, int protection) {
  void *found = mmap(NULL, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return found == MAP_FAILED ? NULL : found;
}

static void discard(const Shadow *shadow) {
  if (shadow->shadow) munmap(shadow->shadow, shadow->bytes);
  if (shadow->levels) munmap(shadow->levels, shadow->bytes / BLOCK_BYTES);
  free(shadow->touched);
}

/* The index of the first shadow that begins after the address. */
static size_t after(const void *address) {
  size_t low = 0, high = count;
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (shadows[middle].base <= (const char *)address) low = middle + 1;
    else high = middle;
  }
  return low;
}

/* The shadow of the range that contains all of these bytes; NULL if there is none. */
static Shadow *containing(const void *address, size_t bytes) {
  size_t index = after(address);
  if (!index) return NULL;
  Shadow *found = &shadows[index - 1];
  size_t offset = (const char *)address - found->base;
  return offset < found->bytes && bytes <= found->bytes - offset ? found : NULL;
}

void emu_add_shadow(void *base, size_t bytes) {
  if (!calls) return;
  /* Nothing that can be written is reserved in full: a system without overcommitment would count it. */
  Shadow made = {base, bytes, reserve(bytes, PROT_NONE), reserve(bytes / BLOCK_BYTES, PROT_READ | PROT_WRITE),
                 calloc(bytes / PIECE_BYTES + 1, 1)};
  pthread_mutex_lock(&lock);
  if (count == room) {
    Shadow *more = realloc(shadows, (room * 2 + 64) * sizeof *shadows);
    if (more) shadows = more, room = room * 2 + 64;
  }
  int fits = made.shadow && made.levels && made.touched && count < room;
  if (fits) {
    size_t index = after(base);
    memmove(&shadows[index + 1], &shadows[index], (count++ - index) * sizeof *shadows);
    shadows[index] = made;
  }
  pthread_mutex_unlock(&lock);
  if (!fits) discard(&made);
}

void emu_drop_shadow(void *base) {
  pthread_mutex_lock(&lock);
  size_t index = after(base);
  if (index && shadows[index - 1].base == base) {
    discard(&shadows[index - 1]);
    memmove(&shadows[index - 1], &shadows[index], (count-- - index) * sizeof *shadows);
  }
  pthread_mutex_unlock(&lock);
}

/* ---- levels and bytes ------------------------------------------------------------------------------- */
void *attnprof_shadow(const void *address, size_t bytes) {
  char *found = NULL;
  pthread_mutex_lock(&lock);
  Shadow *at = containing(address, bytes ? bytes : 1);
  if (at) {
    size_t offset = (const char *)address - at->base, last = (offset + (bytes ? bytes - 1 : 0)) / PIECE_BYTES;
    found = at->shadow + offset;
    for (size_t piece = offset / PIECE_BYTES; piece <= last; piece++) {
      if (at->touched[piece] & WRITABLE) continue;
      size_t from = piece * PIECE_BYTES, size = at->bytes - from < PIECE_BYTES ? at->bytes - from : PIECE_BYTES;
      if (mprotect(at->shadow + from, size, PROT_READ | PROT_WRITE)) found = NULL;
      else at->touched[piece] |= WRITABLE;
    }
  }
  pthread_mutex_unlock(&lock);
  return found;
}

int attnprof_level(const void *address, size_t bytes) {
  int level = EMU_BLANK;
  pthread_mutex_lock(&lock);
  Shadow *at = containing(address, bytes);
  if (at && bytes) {
    size_t offset = (const char *)address - at->base, last = (offset + bytes - 1) / BLOCK_BYTES;
    for (size_t block = offset / BLOCK_BYTES; block <= last && level < EMU_MADE_UP; block++)
      if (at->levels[block] > level) level = at->levels[block];
  }
  pthread_mutex_unlock(&lock);
  return level;
}

void attnprof_set_level(const void *address, size_t bytes, int level, int coverage) {
  pthread_mutex_lock(&lock);
  Shadow *at = containing(address, bytes);
  if (at && bytes) {
    size_t offset = (const char *)address - at->base, end = offset + bytes;
    for (size_t piece = offset / PIECE_BYTES; piece * PIECE_BYTES < end; piece++) at->touched[piece] |= LEVELLED;
    for (size_t block = offset / BLOCK_BYTES; block * BLOCK_BYTES < end; block++) {
      int inner = block * BLOCK_BYTES >= offset && (block + 1) * BLOCK_BYTES <= end;
      if (coverage == EMU_WHOLE || (coverage == EMU_DENSE && inner) || level > at->levels[block])
        at->levels[block] = level;
    }
  }
  pthread_mutex_unlock(&lock);
}

/* Forget a part of one piece. Whole pages of a large part go back to the system. */
static void blank(Shadow *at, size_t from, size_t to) {
  int writable = at->touched[from / PIECE_BYTES] & WRITABLE;
  size_t first = to - from < KEEP_BYTES ? to : (from + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
  size_t last = to - from < KEEP_BYTES ? to : to / PAGE_BYTES * PAGE_BYTES;
  for (size_t block = from / BLOCK_BYTES; block * BLOCK_BYTES < to; block++) {
    size_t start = block * BLOCK_BYTES;
    if (writable && at->levels[block] && (start < first || start >= last)) memset(at->shadow + start, 0, BLOCK_BYTES);
    at->levels[block] = EMU_BLANK;
  }
  if (writable && first < last) madvise(at->shadow + first, last - first, MADV_DONTNEED);
}

void attnprof_blank(const void *address, size_t bytes) {
  pthread_mutex_lock(&lock);
  Shadow *at = containing(address, bytes);
  if (at) {
    size_t offset = (const char *)address - at->base, end = offset + bytes;
    for (size_t from = offset, to; from < end; from = to) {
      size_t piece = from / PIECE_BYTES;
      to = (piece + 1) * PIECE_BYTES < end ? (piece + 1) * PIECE_BYTES : end;
      if (at->touched[piece] & LEVELLED) blank(at, from, to);
      if (to - from == PIECE_BYTES) at->touched[piece] &= ~LEVELLED;
    }
  }
  pthread_mutex_unlock(&lock);
}

/* ---- copies and memsets ----------------------------------------------------------------------------- */
static __thread struct {
  int level; /* 0 if nothing is answered */
  size_t bytes;
  char value[16];
} answer;

void attnprof_answer(const void *value, size_t bytes, int level) {
  answer.level = level;
  answer.bytes = bytes;
  if (value) memcpy(answer.value, value, bytes ? bytes : 8);
}

/* Answer a read of this size. With 0 bytes an answer is a count, which operators read as 4 or 8 bytes. */
static int answered(void *to, size_t bytes) {
  if (!answer.level || (answer.bytes ? bytes != answer.bytes : bytes != 4 && bytes != 8)) return 0;
  memcpy(to, answer.value, bytes);
  return answer.level;
}

static int read_level(int level) {
  return level == EMU_TRUE ? EMU_READ_TRUE : level == EMU_DRAWN ? EMU_READ_DRAWN : EMU_READ_MADE_UP;
}

void emu_copy_from_device(void *to, const void *from, size_t bytes) {
  char *shadow = calls && bytes <= EMU_SMALL_BYTES ? attnprof_shadow(from, bytes) : NULL;
  int level = calls ? answered(to, bytes) : 0;
  if (!level) {
    level = shadow ? attnprof_level(from, bytes) : EMU_MADE_UP;
    if (shadow) memcpy(to, shadow, bytes);
    else memset(to, 0, bytes);
  }
  emu_read_back(read_level(level));
}

void emu_copy_to_device(void *to, const void *from, size_t bytes, int from_device) {
  char *shadow = calls && bytes <= EMU_SMALL_BYTES ? attnprof_shadow(to, bytes) : NULL;
  if (!shadow) return;
  const void *source = from_device ? attnprof_shadow(from, bytes) : from;
  if (!source) return;
  memmove(shadow, source, bytes);
  attnprof_set_level(to, bytes, from_device ? attnprof_level(from, bytes) : EMU_TRUE, EMU_DENSE);
}

void emu_set(void *to, unsigned value, size_t width, size_t elements) {
  size_t bytes = width * elements;
  char *shadow = calls && bytes <= EMU_SMALL_BYTES ? attnprof_shadow(to, bytes) : NULL;
  if (!shadow) return;
  for (size_t i = 0; i < elements; i++) memcpy(shadow + i * width, &value, width);
  attnprof_set_level(to, bytes, EMU_TRUE, EMU_DENSE);
}

/* ---- launches that no known operator made ----------------------------------------------------------- */
/* The number and the sizes of a kernel's arguments are in its compiled code, which is not read. So every word is
   considered that can be read without leaving this thread's stack, where callers keep arguments. */
static void *end_of_stack(void) {
  static __thread char *end;
  pthread_attr_t attributes;
  if (!end && !pthread_getattr_np(pthread_self(), &attributes)) {
    void *start;
    size_t bytes;
    pthread_attr_getstack(&attributes, &start, &bytes);
    pthread_attr_destroy(&attributes);
    end = (char *)start + bytes;
  }
  return end;
}

void emu_stray_launch(void **arguments) {
  enum { MOST_ARGUMENTS = 64, WORDS = 8, NEAR_BYTES = 1 << 16 };
  if (!calls || operators || !arguments) return;
  char *here = (char *)&arguments, *end = end_of_stack();
  if ((char *)arguments < here || (char *)(arguments + 1) > end) return;
  for (int i = 0; i < MOST_ARGUMENTS && (char *)(arguments + i + 1) <= end; i++) {
    char *argument = arguments[i];
    if (argument < here || argument > here + NEAR_BYTES) break;
    for (int word = 0; word < WORDS && argument + 8 * word + 8 <= end; word++) {
      void *pointer;
      memcpy(&pointer, argument + 8 * word, sizeof pointer);
      attnprof_set_level(pointer, 1, EMU_MADE_UP, EMU_SOME);
    }
  }
}

/* ---- graphs ----------------------------------------------------------------------------------------- */
void emu_capture(unsigned long long graph) {
  if (calls) calls->captured(graph);
}
void emu_replay(unsigned long long graph) {
  if (calls) calls->replayed(graph);
}
void emu_forget_graph(unsigned long long graph) {
  if (calls) calls->forgotten(graph);
}
