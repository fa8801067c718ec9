/* libcuda.so.1: the emulated card. The environment variable ATTNPROF_CARD describes it with every field of
   Card: `name=Tesla T4;compute_capability=7.5;multiprocessors=40;...`. */
#include "emulator.h"

#include <cuda.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static Card the_card;

static void fail(const char *what, const char *field) {
  fprintf(stderr, "attnprof emulation: ATTNPROF_CARD %s %s\n", what, field);
  _exit(2);
}

/* Copy the text after `field=`, up to the next `;`. */
static void text_of(const char *description, const char *field, char *into, size_t size) {
  size_t length = strlen(field);
  for (const char *at = description; at; at = strchr(at, ';') ? strchr(at, ';') + 1 : NULL) {
    if (!strncmp(at, field, length) && at[length] == '=') {
      const char *value = at + length + 1;
      snprintf(into, size, "%.*s", (int)strcspn(value, ";"), value);
      return;
    }
  }
  fail("lacks", field);
}

static size_t number_of(const char *description, const char *field) {
  char text[64], *end;
  text_of(description, field, text, sizeof text);
  size_t number = strtoull(text, &end, 10);
  if (*end || end == text) fail("has no whole number for", field);
  return number;
}

__attribute__((constructor)) static void read_card(void) {
  const char *description = getenv("ATTNPROF_CARD");
  if (!description) fail("is not set:", "it describes the card");
  char capability[16];
  text_of(description, "name", the_card.name, sizeof the_card.name);
  text_of(description, "compute_capability", capability, sizeof capability);
  if (sscanf(capability, "%d.%d", &the_card.major, &the_card.minor) != 2) fail("has no", "compute_capability");
#define FIELD(field) the_card.field = number_of(description, #field);
  FIELD(multiprocessors)
  FIELD(threads_per_multiprocessor)
  FIELD(blocks_per_multiprocessor)
  FIELD(registers_per_multiprocessor)
  FIELD(shared_kib_per_multiprocessor)
  FIELD(shared_kib_per_block)
  FIELD(l2_cache_kib)
  FIELD(clock_mhz)
  FIELD(memory_clock_mhz)
  FIELD(memory_bus_bits)
  FIELD(total_bytes)
  FIELD(context_bytes)
#undef FIELD
}

const Card *emu_card(void) { return &the_card; }

int emu_attribute(int attribute) {
  const Card *card = emu_card();
  switch (attribute) {
#define IS(name, value) \
  case CU_DEVICE_ATTRIBUTE_##name: return value;
    IS(MULTIPROCESSOR_COUNT, card->multiprocessors)
    IS(COMPUTE_CAPABILITY_MAJOR, card->major)
    IS(COMPUTE_CAPABILITY_MINOR, card->minor)
    IS(MAX_THREADS_PER_MULTIPROCESSOR, card->threads_per_multiprocessor)
    IS(MAX_BLOCKS_PER_MULTIPROCESSOR, card->blocks_per_multiprocessor)
    IS(MAX_REGISTERS_PER_MULTIPROCESSOR, card->registers_per_multiprocessor)
    IS(MAX_REGISTERS_PER_BLOCK, 65536)
    IS(MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, card->shared_kib_per_multiprocessor * 1024)
    IS(MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, card->shared_kib_per_block * 1024)
    IS(MAX_SHARED_MEMORY_PER_BLOCK, 48 * 1024)
    IS(RESERVED_SHARED_MEMORY_PER_BLOCK, card->major >= 8 ? 1024 : 0)
    IS(L2_CACHE_SIZE, card->l2_cache_kib << 10)
    IS(CLOCK_RATE, card->clock_mhz * 1000)
    IS(MEMORY_CLOCK_RATE, card->memory_clock_mhz * 1000)
    IS(GLOBAL_MEMORY_BUS_WIDTH, card->memory_bus_bits)
    IS(CLUSTER_LAUNCH, card->major >= 9)
    /* These are the same on every card of compute capability 5.0 and up (CUDA C++ Programming Guide, "Technical
       Specifications per Compute Capability"). */
    IS(MAX_THREADS_PER_BLOCK, 1024)
    IS(MAX_BLOCK_DIM_X, 1024)
    IS(MAX_BLOCK_DIM_Y, 1024)
    IS(MAX_BLOCK_DIM_Z, 64)
    IS(MAX_GRID_DIM_X, 2147483647)
    IS(MAX_GRID_DIM_Y, 65535)
    IS(MAX_GRID_DIM_Z, 65535)
    IS(WARP_SIZE, 32)
    IS(TOTAL_CONSTANT_MEMORY, 65536)
    IS(MAX_PITCH, 2147483647)
    IS(TEXTURE_ALIGNMENT, 512)
    /* Features that are emulated. */
    IS(UNIFIED_ADDRESSING, 1)
    IS(CAN_MAP_HOST_MEMORY, 1)
    IS(HOST_REGISTER_SUPPORTED, 1)
    IS(VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 1)
    IS(MEMORY_POOLS_SUPPORTED, 1)
    IS(STREAM_PRIORITIES_SUPPORTED, 1)
    IS(CONCURRENT_KERNELS, 1)
    IS(COOPERATIVE_LAUNCH, 1)
    IS(COMPUTE_PREEMPTION_SUPPORTED, 1)
    IS(GLOBAL_L1_CACHE_SUPPORTED, 1)
    IS(LOCAL_L1_CACHE_SUPPORTED, 1)
    IS(ASYNC_ENGINE_COUNT, 3)
    IS(PCI_BUS_ID, 4)
#undef IS
    default: return 0; /* every other feature is absent */
  }
}

int emu_resident_blocks(int threads, size_t shared_bytes) {
  if (threads < 1 || threads > 1024) return 0;
  const Card *card = emu_card();
  int by_threads = card->threads_per_multiprocessor / ((threads + 31) / 32 * 32);
  int by_shared = (size_t)card->shared_kib_per_multiprocessor * 1024 / (shared_bytes + 1024);
  int blocks = by_threads < card->blocks_per_multiprocessor ? by_threads : card->blocks_per_multiprocessor;
  return blocks < by_shared ? blocks : by_shared;
}

int emu_launchable(unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz) {
  return gx && gy && gz && bx && by && bz && gx <= 2147483647u && gy <= 65535 && gz <= 65535 && bx <= 1024 &&
         by <= 1024 && bz <= 64 && (size_t)bx * by * bz <= 1024;
}
