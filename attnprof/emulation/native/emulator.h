/* What the stand-in libraries share. It is defined in our libcuda.so.1, to which the others link.
   A function that returns int returns a CUDA status: 0, or the number that driver and runtime share. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* ---- card.c: the card that is emulated ------------------------------------------------------------ */
typedef struct {
  char name[128];
  int major, minor; /* compute capability */
  int multiprocessors, threads_per_multiprocessor, blocks_per_multiprocessor, registers_per_multiprocessor;
  int shared_kib_per_multiprocessor, shared_kib_per_block;
  int l2_cache_kib, clock_mhz, memory_clock_mhz, memory_bus_bits;
  size_t total_bytes, context_bytes;
} Card;

const Card *emu_card(void);
int emu_attribute(int attribute);                         /* CUdevice_attribute, which cudaDeviceAttr equals */
int emu_resident_blocks(int threads, size_t shared_bytes); /* of that size on one multiprocessor */
int emu_launchable(unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz);

/* ---- memory.c: every byte accounted, none of the device's backed by anything ---------------------- */
enum { EMU_NOWHERE, EMU_DEVICE, EMU_HOST, EMU_REGISTERED }; /* what an address is */

int emu_allocate(void **address, size_t bytes);
int emu_release(void *address);
int emu_allocate_host(void **address, size_t bytes);
void emu_register_host(void *address, size_t bytes);
int emu_find(const void *address, void **base, size_t *bytes); /* EMU_..., and the range it lies in */
void emu_copy(void *to, const void *from, size_t bytes);       /* the addresses tell the direction */
size_t emu_free_bytes(void);
size_t emu_used_bytes(void); /* the context included */

/* For the virtual memory interface: addresses and bytes apart. */
extern const size_t EMU_GRANULE;
size_t emu_round_up(size_t bytes); /* to whole granules */
void *emu_reserve_addresses(size_t bytes);
int emu_free_addresses(void *address);
int emu_take(size_t bytes); /* 1, or 0 when that much is not free */
void emu_give(size_t bytes);

/* ---- journal.c: what a case must be told of ------------------------------------------------------- */
int emu_unknown(const char *call, int status); /* a call that is not emulated; returns the status */
void emu_assume(const char *what);             /* an answer that a real card might not give */
void emu_read_back(void);                      /* device memory was copied to the host */
void emu_trace(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));
