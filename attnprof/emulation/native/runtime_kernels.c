/* libcudart: kernels and launches. A launch is checked as a card would check it, but runs nothing. */
#include "runtime.h"
#include "runtime_images.h"

#include <stdint.h>

typedef struct {
  const void *stub; /* the host function that represents the kernel */
  const char *name;
  const Images *images;
  int shared_bytes; /* the most that a launch may request */
} Kernel;

enum { DEFAULT_SHARED_BYTES = 48 * 1024, SLOT_BITS = 19, SLOTS = 1 << SLOT_BITS };
static Kernel kernels[SLOTS]; /* a hash table with open addressing; nothing is removed */

static Kernel *kernel_of(const void *stub) {
  size_t slot = ((uintptr_t)stub * 0x9e3779b97f4a7c15ull) >> (64 - SLOT_BITS);
  while (kernels[slot].stub && kernels[slot].stub != stub) slot = (slot + 1) % SLOTS;
  if (!kernels[slot].stub) kernels[slot] = (Kernel){stub, "?", NULL, DEFAULT_SHARED_BYTES};
  return &kernels[slot];
}

/* ---- registration: called by the start-up code that the compiler adds ------------------------------- */
void **__cudaRegisterFatBinary(void *fat_binary) { return (void **)images_of(fat_binary); }
void __cudaRegisterFatBinaryEnd(void **module) {}
void __cudaUnregisterFatBinary(void **module) {}
char __cudaInitModule(void **module) { return 1; }
void __cudaRegisterFunction(void **module, const char *stub, char *device_stub, const char *name, int thread_limit,
                            void *thread, void *block, void *block_dim, void *grid_dim, int *warp_size) {
  Kernel *kernel = kernel_of(stub);
  kernel->name = name;
  kernel->images = (const Images *)module;
}
void __cudaRegisterVar(void **module, char *host, char *device_host, const char *name, int is_extern, size_t bytes,
                       int is_constant, int is_global) {}

/* ---- launches --------------------------------------------------------------------------------------- */
static __thread struct {
  dim3 grid, block;
  size_t shared_bytes;
  cudaStream_t stream;
} pushed;

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream) {
  pushed.grid = grid;
  pushed.block = block;
  pushed.shared_bytes = shared_bytes;
  pushed.stream = stream;
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared_bytes, void *stream) {
  *grid = pushed.grid;
  *block = pushed.block;
  *shared_bytes = pushed.shared_bytes;
  *(cudaStream_t *)stream = pushed.stream;
  return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *stub) {
  *kernel = (cudaKernel_t)stub;
  return cudaSuccess;
}

static int has_image(const Kernel *kernel) {
  return images_serve(kernel->images, emu_card()->major, emu_card()->minor);
}
static cudaError_t launch(const void *stub, dim3 grid, dim3 block, size_t shared_bytes, void **arguments) {
  const Kernel *kernel = kernel_of(stub);
  cudaError_t error = cudaSuccess;
  if (!has_image(kernel)) error = cudaErrorNoKernelImageForDevice;
  else if (!emu_launchable(grid.x, grid.y, grid.z, block.x, block.y, block.z)) error = cudaErrorInvalidConfiguration;
  else if (shared_bytes > (size_t)kernel->shared_bytes) error = cudaErrorInvalidValue;
  emu_trace(error ? 1 : 2, "launch %s grid %u,%u,%u block %u,%u,%u shared %zu: %s", kernel->name, grid.x, grid.y,
            grid.z, block.x, block.y, block.z, shared_bytes, cudaGetErrorString(error));
  if (!error) rt_launched();
  if (!error) emu_stray_launch(arguments);
  return rt_return(error);
}
cudaError_t cudaLaunchKernel(const void *stub, dim3 grid, dim3 block, void **arguments, size_t shared_bytes,
                             cudaStream_t stream) {
  return launch(stub, grid, block, shared_bytes, arguments);
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **arguments, size_t shared_bytes,
                               cudaStream_t stream) {
  return launch(kernel, grid, block, shared_bytes, arguments);
}
cudaError_t cudaLaunchCooperativeKernel(const void *stub, dim3 grid, dim3 block, void **arguments, size_t shared_bytes,
                                        cudaStream_t stream) {
  return launch(stub, grid, block, shared_bytes, arguments);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *stub, void **arguments) {
  return launch(stub, config->gridDim, config->blockDim, config->dynamicSmemBytes, arguments);
}

/* ---- attributes and occupancy ----------------------------------------------------------------------- */
cudaError_t cudaFuncSetAttribute(const void *stub, enum cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value > emu_card()->shared_kib_per_block * 1024) return rt_return(cudaErrorInvalidValue);
  if (value > DEFAULT_SHARED_BYTES) kernel_of(stub)->shared_bytes = value;
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *attributes, const void *stub) {
  const Kernel *kernel = kernel_of(stub);
  if (!has_image(kernel)) return rt_return(cudaErrorNoKernelImageForDevice);
  int version = emu_card()->major * 10 + emu_card()->minor;
  *attributes = (struct cudaFuncAttributes){
      .maxThreadsPerBlock = 1024,
      .numRegs = 64, /* the real number is in the compiled code, which is not read */
      .ptxVersion = version,
      .binaryVersion = version,
      .maxDynamicSharedSizeBytes = kernel->shared_bytes,
  };
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *stub, int threads,
                                                          size_t shared_bytes) {
  *blocks = emu_resident_blocks(threads, shared_bytes);
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *stub, int threads,
                                                                   size_t shared_bytes, unsigned flags) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, stub, threads, shared_bytes);
}
