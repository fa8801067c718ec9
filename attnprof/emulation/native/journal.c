/* libcuda.so.1: the journal of events that affect how far a result can be trusted. attnprof reads it after each
   case. */
#include "emulator.h"

#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Mirrored in attnprof/emulation/watch/journal.py. Each text is a list of distinct lines. */
typedef struct {
  uint64_t reads[EMU_LEVELS]; /* copies from the card to the host, by the level of what they read */
  char unknown[2048];
  char assumed[2048];
} Journal;

static Journal journal;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void attnprof_read_journal(Journal *into) {
  pthread_mutex_lock(&lock);
  *into = journal;
  pthread_mutex_unlock(&lock);
}

void attnprof_clear_journal(void) {
  pthread_mutex_lock(&lock);
  journal = (Journal){0};
  pthread_mutex_unlock(&lock);
}

static void add_line(char *text, size_t size, const char *line) {
  pthread_mutex_lock(&lock);
  size_t length = strlen(line);
  for (const char *at = text; (at = strstr(at, line)); at += length) {
    if ((at == text || at[-1] == '\n') && at[length] == '\n') goto known;
  }
  if (strlen(text) + length + 2 <= size) strcat(strcat(text, line), "\n");
known:
  pthread_mutex_unlock(&lock);
}

int emu_unknown(const char *call, int status) {
  add_line(journal.unknown, sizeof journal.unknown, call);
  emu_trace(1, "%s is not emulated, returns %d", call, status);
  return status;
}

void emu_assume(const char *what) { add_line(journal.assumed, sizeof journal.assumed, what); }

/* If set, called on the reading thread after every read-back, with the level of what was read. No lock is held, since it may wait for Python's
   global lock. An exception cannot travel from Python through C: if a signal arrived during the call, the
   callback returns its number, and the signal is raised again. */
static int (*listener)(int level);

void attnprof_on_read_back(int (*callback)(int level)) {
  pthread_mutex_lock(&lock);
  listener = callback;
  pthread_mutex_unlock(&lock);
}

void emu_read_back(int level) {
  pthread_mutex_lock(&lock);
  journal.reads[level]++;
  int (*callback)(int level) = listener;
  pthread_mutex_unlock(&lock);
  int interrupted = callback ? callback(level) : 0;
  if (interrupted) raise(interrupted);
}

/* Print to stderr if ATTNPROF_EMULATION_TRACE is at least `level`. 1 shows allocations and refusals; 2 also
   shows every launch by name. */
void emu_trace(int level, const char *format, ...) {
  static int wanted = -1;
  if (wanted < 0) {
    const char *text = getenv("ATTNPROF_EMULATION_TRACE");
    wanted = text ? atoi(text) : 0;
  }
  if (level > wanted) return;
  char line[1024];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  fprintf(stderr, "attnprof emulation: %s\n", line);
}
