/* libcublas: handles and their settings. build.py generates the calls that compute; they return success. */
#include "emulator.h"

#include <cublas_v2.h>
#include <stdlib.h>

/* A real allocation, since PyTorch keys its workspaces by the handle's address (ATen/cuda/CublasHandlePool.cpp). */
struct cublasContext {
  cudaStream_t stream;
  cublasMath_t math_mode;
  cublasPointerMode_t pointer_mode;
};

cublasStatus_t cublasCreate(cublasHandle_t *handle) {
  *handle = calloc(1, sizeof **handle);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy(cublasHandle_t handle) {
  free(handle);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetVersion(cublasHandle_t handle, int *version) {
  *version = CUBLAS_VERSION;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetStream(cublasHandle_t handle, cudaStream_t *stream) {
  *stream = handle->stream;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void *workspace, size_t bytes) {
  emu_workspace("cuBLAS", "", workspace, bytes);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
  handle->math_mode = mode;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetMathMode(cublasHandle_t handle, cublasMath_t *mode) {
  *mode = handle->math_mode;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetPointerMode(cublasHandle_t handle, cublasPointerMode_t mode) {
  handle->pointer_mode = mode;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetPointerMode(cublasHandle_t handle, cublasPointerMode_t *mode) {
  *mode = handle->pointer_mode;
  return CUBLAS_STATUS_SUCCESS;
}
const char *cublasGetStatusString(cublasStatus_t status) {
  return status ? "cuBLAS error on the emulated device" : "success";
}
const char *cublasGetStatusName(cublasStatus_t status) {
  return status ? "CUBLAS_STATUS_INTERNAL_ERROR" : "CUBLAS_STATUS_SUCCESS";
}

/* ---- batches of small matrices: PyTorch asserts that the argument that is not on the card is 0 ---------- */
#define BATCHED(letter, number) \
  cublasStatus_t cublas##letter##geqrfBatched(cublasHandle_t handle, int rows, int columns, number *const matrices[], \
                                              int stride, number *const factors[], int *info, int count) { \
    *info = 0; \
    return CUBLAS_STATUS_SUCCESS; \
  } \
  cublasStatus_t cublas##letter##gelsBatched( \
      cublasHandle_t handle, cublasOperation_t operation, int rows, int columns, int sides, number *const matrices[], \
      int stride, number *const right[], int right_stride, int *info, int *infos, int count) { \
    *info = 0; \
    return CUBLAS_STATUS_SUCCESS; \
  }
BATCHED(S, float)
BATCHED(D, double)
BATCHED(C, cuComplex)
BATCHED(Z, cuDoubleComplex)
