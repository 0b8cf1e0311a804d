// The runtime's own state; see status_cuda.h.
#include "portable.cuh"
#include "status_cuda.h"

namespace mclrec::cuda {

#ifdef MCLREC_CUDA_EMULATION

// The emulation throws where a GPU would fail.
const char* take_launch_error() { return nullptr; }
int runtime_version() { return 0; }

#else

const char* take_launch_error() {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}
int runtime_version() { return CUDART_VERSION; }

#endif

}  // namespace mclrec::cuda
