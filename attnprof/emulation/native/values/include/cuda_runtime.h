/* torch's headers include this for the runtime's functions. The rest of it needs a CUDA compiler's headers. */
#include <cuda_runtime_api.h>
