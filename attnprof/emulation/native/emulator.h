/* The interface that all stand-in libraries share. Our libcuda.so.1 defines it, and the others link to it.
   Unless its comment says otherwise, a function that returns int returns a CUDA status: 0 for success, or an
   error number, which is the same in the driver and the runtime API. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "values_interface.h"

/* ---- card.c: the card that is emulated -------------------------------------------------------------- */
typedef struct {
  char name[128];
  int major, minor; /* compute capability */
  int multiprocessors, threads_per_multiprocessor, blocks_per_multiprocessor, registers_per_multiprocessor;
  int shared_kib_per_multiprocessor, shared_kib_per_block;
  int l2_cache_kib, clock_mhz, memory_clock_mhz, memory_bus_bits;
  size_t total_bytes, context_bytes;
} Card;

const Card *emu_card(void);
int emu_attribute(int attribute); /* takes a CUdevice_attribute; cudaDeviceAttr has the same values */
int emu_resident_blocks(int threads, size_t shared_bytes); /* blocks of this size that fit on one multiprocessor */
/* Returns 1 if a card accepts a launch of this grid (g) and block (b), else 0. */
int emu_launchable(unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz);

/* ---- memory.c: every byte is counted; device memory has no storage behind it ------------------------ */
enum { EMU_NOWHERE, EMU_DEVICE, EMU_HOST, EMU_REGISTERED }; /* the kind of an address */

int emu_allocate(void **address, size_t bytes);
int emu_release(void *address);
int emu_allocate_host(void **address, size_t bytes);
void emu_register_host(void *address, size_t bytes);
int emu_find(const void *address, void **base, size_t *bytes); /* returns EMU_..., and the range around the address */
void emu_copy(void *to, const void *from, size_t bytes);       /* the kinds of the two addresses give the direction */
size_t emu_free_bytes(void);
size_t emu_used_bytes(void); /* includes the CUDA context */

/* For the virtual memory interface, which reserves addresses and takes bytes in separate calls. */
extern const size_t EMU_GRANULE;
size_t emu_round_up(size_t bytes); /* to a multiple of EMU_GRANULE */
void *emu_reserve_addresses(size_t bytes);
int emu_free_addresses(void *address);
int emu_take(size_t bytes); /* returns 1, or 0 if fewer bytes are free */
void emu_give(size_t bytes);

/* ---- addresses.c: the order in which addresses are handed out -------------------------------------- */
void *emu_map_addresses(size_t bytes); /* a multiple of EMU_GRANULE; they cannot be read or written */
void emu_unmap_addresses(void *base, size_t bytes);

/* ---- clock.c: the device's clock, which counts operations -------------------------------------------- */
void emu_tick(unsigned count);
uint64_t emu_clock(void); /* is never 0 */
/* A plan of cuDNN ran that a program compares with rivals by time, or with none; `begins` for the first of them. */
void emu_plan_ran(int rivals, int begins);
void emu_time_read(void); /* notes that a program asked how long something took */

/* ---- shadows.c: the values of small pieces of device memory ------------------------------------------ */
void emu_load_values(void); /* loads the library of values, if one is wanted; before any range is added */
int attnprof_values_on(void);
void emu_add_shadow(void *base, size_t bytes);
void emu_drop_shadow(void *base);
void emu_copy_from_device(void *to, const void *from, size_t bytes);
void emu_copy_to_device(void *to, const void *from, size_t bytes, int from_device);
void emu_set(void *to, unsigned value, size_t width, size_t elements);
void emu_stray_launch(void **arguments); /* what a kernel may write that no known operator launched is made up */
void emu_capture(unsigned long long graph);
void emu_replay(unsigned long long graph);
void emu_forget_graph(unsigned long long graph);

/* ---- workspaces.c: blocks that a library was given as its workspace ---------------------------------- */
void emu_workspace(const char *library, const char *operation, const void *address, size_t bytes);

/* ---- journal.c: events that the record of a case must mention --------------------------------------- */
/* The level of bytes that a program reads: computed from what the host gave; from a generator, so not the card's
   own numbers; or made up, since they depend on memory that has no values. */
enum { EMU_READ_TRUE, EMU_READ_DRAWN, EMU_READ_MADE_UP, EMU_LEVELS };

int emu_unknown(const char *call, int status); /* notes a call that is not emulated; returns the status */
void emu_assume(const char *what);             /* notes an answer that a real card might not give */
void emu_read_back(int level);                 /* counts a copy from device memory to the host */
void emu_trace(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));
