/* libcuda.so.1: the blocks of device memory that a library was given as its workspace. The libraries learn the address
   when they are to compute. attnprof compares it with the history of PyTorch's allocator, to name these blocks. */
#define _GNU_SOURCE
#include "emulator.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

/* Mirrored in attnprof/emulation/watch/journal.py. */
typedef struct {
  uint64_t address, bytes, time_us;
  char library[16], operation[40];
} Workspace;

/* The newest notes. The allocator's history, which they are compared with, has no more calls than this either. */
enum { NOTES = 65536 };
static Workspace notes[NOTES];
static size_t noted;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void emu_workspace(const char *library, const char *operation, const void *address, size_t bytes) {
  if (!address || !bytes) return;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now); /* as c10::getTime does, the clock of the allocator's history */
  pthread_mutex_lock(&lock);
  Workspace *last = noted ? &notes[(noted - 1) % NOTES] : NULL;
  /* A library that keeps its workspace is told of it again and again. */
  int again = last && last->address == (uint64_t)address && last->bytes == bytes && !strcmp(last->library, library);
  Workspace *at = again && !*operation ? last : &notes[noted++ % NOTES];
  *at = (Workspace){(uint64_t)address, bytes, (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000, "", ""};
  strncpy(at->library, library, sizeof at->library - 1);
  strncpy(at->operation, operation, sizeof at->operation - 1);
  pthread_mutex_unlock(&lock);
}

/* Copy the newest notes, the oldest first, and return how many there are. */
size_t attnprof_read_workspaces(Workspace *into, size_t most) {
  pthread_mutex_lock(&lock);
  size_t kept = noted < NOTES ? noted : NOTES;
  if (kept > most) kept = most;
  for (size_t index = 0; index < kept; index++) into[index] = notes[(noted - kept + index) % NOTES];
  pthread_mutex_unlock(&lock);
  return kept;
}
