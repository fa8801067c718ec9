/* libcudnn: notes the workspace of each plan that is run, with the operation that the plan is for. */
#include "cudnn_workspace.h"

#include <pthread.h>

/* Plans by their descriptor's address. A plan that another one displaces has no operation. */
enum { PLANS = 4096 };
static struct {
  void *plan;
  const char *operation;
} operations[PLANS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* A plan is made, and run, by the thread that has made its operation, and has set its workspace. */
static __thread const char *operation = "";
static __thread void *workspace;

void workspace_of_operation(cudnnBackendDescriptorType_t type) {
  switch ((int)type) {
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR: operation = "convolution"; break;
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR: operation = "gradient of the input"; break;
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR: operation = "gradient of the weights"; break;
    case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR: operation = "attention"; break;
  }
}

static size_t place(void *plan) { return ((size_t)plan >> 4) % PLANS; }

void workspace_add(void *plan) {
  pthread_mutex_lock(&lock);
  operations[place(plan)].plan = plan;
  operations[place(plan)].operation = operation;
  pthread_mutex_unlock(&lock);
}

void workspace_set(void *address) { workspace = address; }

void workspace_run(void *plan, int64_t bytes) {
  pthread_mutex_lock(&lock);
  const char *known = operations[place(plan)].plan == plan ? operations[place(plan)].operation : "";
  pthread_mutex_unlock(&lock);
  emu_workspace("cuDNN", *known ? known : "unknown operation", workspace, bytes > 0 ? (size_t)bytes : 0);
  workspace = NULL;
}
