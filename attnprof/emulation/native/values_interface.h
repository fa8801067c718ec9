/* The interface between libcuda.so.1 and the library of values (values/), which is C++ and is compiled against
   torch's headers. */
#pragma once
#include <stddef.h>

enum { EMU_SMALL_BYTES = 4 << 20 }; /* a storage above this has no values */

/* How far the values of a block of device memory can be trusted. */
enum {
  EMU_BLANK,   /* nothing has been written since the memory was allocated */
  EMU_TRUE,    /* copied from the host, or computed from such values */
  EMU_DRAWN,   /* depends on random numbers, which are not those of a card */
  EMU_MADE_UP, /* depends on values that nobody has computed */
};

/* The coverage of a range of bytes that is written. */
enum {
  EMU_SOME,  /* the bytes have gaps between them */
  EMU_DENSE, /* all of the bytes, but maybe not all of the first block and the last */
  EMU_WHOLE, /* all blocks as a whole */
};

/* What the library of values offers; `attnprof_values_start` returns it. A graph's number is 0 for none. */
typedef struct {
  void (*captured)(unsigned long long graph); /* from now on operators belong to this graph; 0 ends that */
  void (*replayed)(unsigned long long graph);
  void (*forgotten)(unsigned long long graph);
} ValueCalls;

/* What libcuda.so.1 offers to it. Addresses are those of the device. */
#ifdef __cplusplus
extern "C" {
#endif
/* The bytes on the host that stand for these; NULL if there are none. */
void *attnprof_shadow(const void *address, size_t bytes);
int attnprof_level(const void *address, size_t bytes); /* the highest level of the blocks */
/* Give blocks a level. A block that is written in part keeps a higher one. */
void attnprof_set_level(const void *address, size_t bytes, int level, int coverage);
void attnprof_blank(const void *address, size_t bytes); /* forget values and levels */
/* Answer what this thread reads from the device with a value of this size, until the level is 0. With 0 bytes the
   value is a count of 8 bytes, and reads of 4 or 8 bytes are answered. */
void attnprof_answer(const void *value, size_t bytes, int level);
void attnprof_unknown(const char *what);  /* notes a part that is not emulated */
void attnprof_assume(const char *what);   /* adds a line to the journal, after "Emulation assumes that" */
void attnprof_enter_operator(int change); /* +1 or -1: the launches of this thread belong to a known operator */
#ifdef __cplusplus
}
#endif
