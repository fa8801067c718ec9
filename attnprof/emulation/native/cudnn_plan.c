/* libcudnn: the graph interface. It forwards to the real libcudnn_graph, which can plan for a card that is not
   present: it reports which engines support an operation and the workspace that each needs. Only execution is
   left out.

   CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR makes this possible, "for deviceless compilation" (cudnn_graph.h, cuDNN
   9.8 and later). The keys of its JSON are not documented; these come from the library's own error messages.
   If the library refuses them, or cuDNN is older, every operation counts as supported without a workspace,
   and the record of each case that relies on this says so. */
#include "cudnn_order.h"
#include "cudnn_workspace.h"

#include <cuda_runtime_api.h>
#include <cudnn.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef cudnnBackendDescriptor_t Descriptor;

static struct {
  cudnnStatus_t (*create)(cudnnBackendDescriptorType_t, Descriptor *);
  cudnnStatus_t (*destroy)(Descriptor);
  cudnnStatus_t (*initialize)(Descriptor);
  cudnnStatus_t (*finalize)(Descriptor);
  cudnnStatus_t (*set)(Descriptor, cudnnBackendAttributeName_t, cudnnBackendAttributeType_t, int64_t, const void *);
  cudnnStatus_t (*get)(Descriptor, cudnnBackendAttributeName_t, cudnnBackendAttributeType_t, int64_t, int64_t *,
                       void *);
  void (*last_error)(char *, size_t);
} real;

static int plans; /* 1 if the real library plans for the emulated card */

#if CUDNN_VERSION >= 90800
static Descriptor the_device;

static cudnnStatus_t describe_device(void) {
  const Card *card = emu_card();
  char json[2048];
  snprintf(json, sizeof json,
           "{\"cudaDeviceId\":0,\"deviceVer\":%d,\"driverVer\":%d,\"maxGridSize\":[2147483647,65535,65535],"
           "\"maxBlockSize\":[1024,1024,64],\"regsPerBlock\":65536,\"multiProcessorCount\":%d,\"smCountOrigin\":0,"
           "\"warpSize\":32,\"maxSharedMemoryPerBlock\":49152,\"maxSharedMemoryPerBlockOptin\":%d,"
           "\"reservedSharedMemoryPerBlock\":%d,\"maxRegistersPerSM\":%d,\"maxCtasPerSM\":%d,"
           "\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":%d,\"pciDeviceId\":0,\"isTccDriver\":0,"
           "\"supportCoopLaunch\":1,\"totalGlobalMem\":%zu,\"smClockRateKHz\":%d,\"memClockRateKHz\":%d,"
           "\"l2CacheSize\":%d,\"deviceName\":\"%s\"}",
           card->major * 100 + card->minor * 10, CUDART_VERSION, card->multiprocessors,
           card->shared_kib_per_block * 1024, card->major >= 8 ? 1024 : 0, card->registers_per_multiprocessor,
           card->blocks_per_multiprocessor, card->threads_per_multiprocessor, card->total_bytes, card->clock_mhz * 1000,
           card->memory_clock_mhz * 1000, card->l2_cache_kib << 10, card->name);
  cudnnStatus_t status = real.create(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &the_device);
  if (!status)
    status = real.set(the_device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, strlen(json), json);
  return status ? status : real.finalize(the_device);
}
#endif

static void start(void) {
  const char *path = getenv("ATTNPROF_CUDNN_GRAPH"); /* a path, since only libcudnn itself is replaced */
  void *library = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
  if (!library) {
    emu_trace(1, "cuDNN does not plan: %s", path ? dlerror() : "ATTNPROF_CUDNN_GRAPH is not set");
    return;
  }
#define FUNCTION(field, name) *(void **)&real.field = dlsym(library, name);
  FUNCTION(create, "cudnnBackendCreateDescriptor")
  FUNCTION(destroy, "cudnnBackendDestroyDescriptor")
  FUNCTION(initialize, "cudnnBackendInitialize")
  FUNCTION(finalize, "cudnnBackendFinalize")
  FUNCTION(set, "cudnnBackendSetAttribute")
  FUNCTION(get, "cudnnBackendGetAttribute")
  FUNCTION(last_error, "cudnnGetLastErrorString")
#undef FUNCTION
#if CUDNN_VERSION >= 90800
  cudnnStatus_t status = describe_device();
  plans = !status;
  if (status) {
    char words[1024] = "";
    real.last_error(words, sizeof words);
    emu_trace(1, "cuDNN does not plan: it refuses the device's properties (%d) %s", status, words);
  }
#endif
}

int attnprof_cudnn_plans(void) { /* attnprof calls it too, for its records */
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, start);
  return plans;
}

static cudnnStatus_t said(const char *what, int name, cudnnStatus_t status) {
  if (status) {
    char words[2048] = "";
    real.last_error(words, sizeof words);
    emu_trace(1, "cuDNN %s %d: %d %s", what, name, status, words);
  }
  return status;
}

void cudnnGetLastErrorString(char *text, size_t size) {
  if (plans) real.last_error(text, size);
  else snprintf(text, size, "not supported by the emulated device");
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, Descriptor *made) {
  if (attnprof_cudnn_plans()) {
    cudnnStatus_t status = said("create", type, real.create(type, made));
    if (!status) workspace_of_operation(type);
    if (!status && type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) {
      order_add(*made);
      workspace_add(*made);
    }
    return status;
  }
  emu_assume("cuDNN takes no workspace (this cuDNN does not plan without the card)");
  *made = calloc(1, 64);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendDestroyDescriptor(Descriptor descriptor) {
  if (plans) {
    order_remove(descriptor);
    return real.destroy(descriptor);
  }
  free(descriptor);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendInitialize(Descriptor descriptor) {
  return plans ? real.initialize(descriptor) : CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendFinalize(Descriptor descriptor) {
  return plans ? said("finalize", 0, real.finalize(descriptor)) : CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, Descriptor plan, Descriptor pack) {
  order_run(plan);
  int64_t bytes = 0, count = 0;
  if (plans) real.get(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count, &bytes);
  workspace_run(plan, bytes);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(Descriptor descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void *values) {
  if (name == CUDNN_ATTR_VARIANT_PACK_WORKSPACE && values) workspace_set(*(void *const *)values);
  if (!plans) return CUDNN_STATUS_SUCCESS;
#if CUDNN_VERSION >= 90800
  /* The real library does not know our handle, so pass it the device's properties instead. */
  if (name == CUDNN_ATTR_OPERATIONGRAPH_HANDLE) return CUDNN_STATUS_SUCCESS;
  cudnnBackendAttributeType_t is_descriptor = CUDNN_TYPE_BACKEND_DESCRIPTOR;
  if (name == CUDNN_ATTR_EXECUTION_PLAN_HANDLE)
    return said("set", name, real.set(descriptor, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, is_descriptor, 1, &the_device));
  cudnnStatus_t status = real.set(descriptor, name, type, count, values);
  if (!status && name == CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH)
    status = real.set(descriptor, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, is_descriptor, 1, &the_device);
  if (!status && name == CUDNN_ATTR_ENGINE_OPERATION_GRAPH)
    status = real.set(descriptor, CUDNN_ATTR_ENGINE_DEVICEPROP, is_descriptor, 1, &the_device);
  return said("set", name, status);
#else
  return said("set", name, real.set(descriptor, name, type, count, values)); /* not reached: see start() */
#endif
}

/* Answer as one engine would that supports every operation and needs no workspace. */
static cudnnStatus_t get_unplanned(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t room,
                                   int64_t *count, void *values) {
  int64_t elements = 0, value = 0;
  switch ((int)name) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS:
    case CUDNN_ATTR_ENGINECFG_ENGINE: /* the caller made these descriptors */
      if (count) *count = 1;
      return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_OPERATIONGRAPH_ENGINE_GLOBAL_COUNT: elements = value = 1; break;
#if CUDNN_VERSION >= 90800
    case CUDNN_ATTR_ENGINECFG_SHARED_MEMORY_USED:
    case CUDNN_ATTR_ENGINECFG_WORKSPACE_SIZE:
#endif
    case CUDNN_ATTR_ENGINE_GLOBAL_INDEX:
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE: elements = 1; break;
  }
  if (count) *count = elements;
  if (elements && room && values) {
    if (type == CUDNN_TYPE_INT64) *(int64_t *)values = value;
    if (type == CUDNN_TYPE_INT32) *(int32_t *)values = value;
  }
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendGetAttribute(Descriptor const descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t room, int64_t *count, void *values) {
  if (!plans) return get_unplanned(name, type, room, count, values);
  cudnnStatus_t status = said("get", name, real.get(descriptor, name, type, room, count, values));
  if (!status && name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE && values) {
    order_learn_workspace(descriptor, *(int64_t *)values);
    emu_trace(1, "cuDNN's plan takes a workspace of %lld bytes", (long long)*(int64_t *)values);
  }
  return status;
}
