/* libcuda.so.1: the end of a Python process. Before 3.14, Python ends other threads that want its global lock while it
   is finalised with pthread_exit, which unwinds their stack. Autograd's thread may still be releasing its graph then,
   in C++ destructors that let nothing through: "terminate called without an active exception". A card's kernels take
   time, so programs wait for them, and the thread is done before they end. Here nothing waits.

   So such a thread is stopped where it stands until the process ends, as Python 3.14 itself does (gh-87135). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

/* PyTorch would wait ten seconds for the stopped thread (Engine::stop, torch/csrc/autograd/engine.cpp). Runs while the
   process exits, before the destructors of libraries that were loaded earlier. */
static void do_not_wait(void) { setenv("TORCH_AUTOGRAD_SHUTDOWN_WAIT_LIMIT", "0", 1); }

/* Return 1 if Python is being finalised and the code at `caller` is its own. */
static int python_ends(void *caller) {
  void *function = dlsym(RTLD_DEFAULT, "_Py_IsFinalizing");
  if (!function) function = dlsym(RTLD_DEFAULT, "Py_IsFinalizing"); /* Python 3.13 */
  Dl_info python, calling;
  if (!function || !dladdr(function, &python) || !dladdr(caller, &calling)) return 0;
  return python.dli_fbase == calling.dli_fbase && ((int (*)(void))function)();
}

void pthread_exit(void *value) {
  if (python_ends(__builtin_return_address(0))) {
    atexit(do_not_wait);
    for (;;) pause();
  }
  void (*plain)(void *) = (void (*)(void *))dlsym(RTLD_NEXT, "pthread_exit");
  plain(value);
  abort(); /* not reached */
}
