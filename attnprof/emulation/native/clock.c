/* libcuda.so.1: the device's clock. It counts operations, since nothing takes the time that the card would take. So
   whatever a program chooses by time is chosen in the same way in every run. */
#include "emulator.h"

#include <stdatomic.h>

/* A clock of 0 would mean an event that was never recorded. */
static atomic_ullong ticks = 1;
static atomic_ulong trials;

void emu_tick(unsigned count) { ticks += count; }
uint64_t emu_clock(void) { return ticks; }

/* Between a plan that has rivals and the next one that has none, times are read to compare them. */
static __thread int comparing;

void emu_plan_ran(int rivals, int begins) {
  comparing = rivals;
  trials += begins;
}
void emu_time_read(void) {
  if (!comparing) emu_assume("the time between two events is 0.01 ms for each operation of the card");
}
unsigned long attnprof_plan_trials(void) { return trials; } /* attnprof reads it after each step */
