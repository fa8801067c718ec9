/* libcudart: streams, events and graph capture. Every operation is complete as soon as it is issued. Events
   contain the device's clock, and a graph only the number of kernels that were captured. */
#include "runtime.h"

#include <stdlib.h>

/* ---- streams ---------------------------------------------------------------------------------------- */
typedef struct {
  int priority;
} Stream;

/* Handles below 16 are the default streams (cudaStreamLegacy 1, cudaStreamPerThread 2). */
static int is_default(cudaStream_t stream) { return (size_t)stream < 16; }

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority) {
  Stream *made = malloc(sizeof *made);
  made->priority = priority;
  *stream = (cudaStream_t)made;
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}
cudaError_t cudaStreamCreate(cudaStream_t *stream) { return cudaStreamCreateWithPriority(stream, 0, 0); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (!is_default(stream)) free(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamGetPriority(cudaStream_t stream, int *priority) {
  *priority = is_default(stream) ? 0 : ((Stream *)stream)->priority;
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) { return cudaSuccess; }
cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t callback, void *data, unsigned flags) {
  callback(stream, cudaSuccess, data);
  return cudaSuccess;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data) {
  function(data);
  return cudaSuccess;
}

/* ---- events ----------------------------------------------------------------------------------------- */
static const float MS_PER_TICK = 0.01f; /* as a small kernel takes */

typedef struct {
  unsigned flags;
  uint64_t recorded; /* 0 until recorded */
} Event;

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
  Event *made = malloc(sizeof *made);
  *made = (Event){flags, 0};
  *event = (cudaEvent_t)made;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  free(event);
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  emu_tick(1); /* programs divide by the time between two events */
  ((Event *)event)->recorded = emu_clock();
  return cudaSuccess;
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
  return cudaEventRecord(event, stream);
}
cudaError_t cudaEventQuery(cudaEvent_t event) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t event) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end) {
  const Event *from = (Event *)start, *to = (Event *)end;
  if (!from->recorded || !to->recorded || ((from->flags | to->flags) & cudaEventDisableTiming))
    return rt_return(cudaErrorInvalidResourceHandle);
  emu_time_read();
  *ms = (int64_t)(to->recorded - from->recorded) * MS_PER_TICK;
  return cudaSuccess;
}

/* ---- graph capture ---------------------------------------------------------------------------------- */
static enum cudaStreamCaptureStatus capturing;
static unsigned long long captures;
static size_t nodes;

/* A graph, and also what is instantiated from it: nothing distinguishes them but their owners. */
typedef struct {
  unsigned long long id;
  size_t nodes;
  int owners;
} Graph;
static Graph *the_graph; /* of the capture that is active */

void rt_launched(void) {
  emu_tick(1);
  nodes += capturing == cudaStreamCaptureStatusActive;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
  *status = capturing;
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) {
  capturing = cudaStreamCaptureStatusActive;
  nodes = 0;
  the_graph = malloc(sizeof *the_graph);
  *the_graph = (Graph){++captures, 0, 1};
  emu_capture(the_graph->id);
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
  capturing = cudaStreamCaptureStatusNone;
  emu_capture(0);
  the_graph->nodes = nodes;
  *graph = (cudaGraph_t)the_graph;
  return cudaSuccess;
}
static cudaError_t capture_info(enum cudaStreamCaptureStatus *status, unsigned long long *id, cudaGraph_t *graph,
                                const cudaGraphNode_t **dependencies, size_t *count) {
  *status = capturing;
  if (id) *id = captures;
  if (graph) *graph = (cudaGraph_t)the_graph;
  if (dependencies) *dependencies = NULL;
  if (count) *count = 0;
  return cudaSuccess;
}
#if CUDART_VERSION >= 13000
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, enum cudaStreamCaptureStatus *status, unsigned long long *id,
                                     cudaGraph_t *graph, const cudaGraphNode_t **dependencies,
                                     const cudaGraphEdgeData **edges, size_t *count) {
  if (edges) *edges = NULL;
  return capture_info(status, id, graph, dependencies, count);
}
#else
cudaError_t cudaStreamGetCaptureInfo_v2(cudaStream_t stream, enum cudaStreamCaptureStatus *status,
                                        unsigned long long *id, cudaGraph_t *graph,
                                        const cudaGraphNode_t **dependencies, size_t *count) {
  return capture_info(status, id, graph, dependencies, count);
}
#endif
cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode) { return cudaSuccess; }
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long flags) {
  ((Graph *)graph)->owners++;
  *executable = (cudaGraphExec_t)graph;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long flags) {
  return cudaGraphInstantiateWithFlags(executable, graph, flags);
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *into, size_t *count) {
  if (into) return rt_return(emu_unknown("cudaGraphGetNodes of the nodes themselves", cudaErrorNotSupported));
  *count = ((Graph *)graph)->nodes;
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  emu_replay(((Graph *)executable)->id);
  return cudaSuccess;
}
static cudaError_t let_go(Graph *graph) {
  if (--graph->owners) return cudaSuccess;
  emu_forget_graph(graph->id);
  free(graph);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return let_go((Graph *)graph); }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) { return let_go((Graph *)executable); }
