// Errors of the CUDA runtime.
#pragma once

#include <cuda_runtime.h>

#include "runtime/core/error.hpp"

namespace filigree {

// Throws InternalError that names the call and what CUDA says; an error of work enqueued earlier
// shows at the first call after it.
inline void check_cuda(cudaError_t result, const char* call) {
  if (result == cudaSuccess) return;
  cudaGetLastError();  // an error that is not sticky is gone with its report
  throw InternalError(str(call, ": ", cudaGetErrorString(result), " (", cudaGetErrorName(result),
                          "); work that was enqueued earlier may have caused it"));
}

}  // namespace filigree

#define FILIGREE_CHECK_CUDA(call) ::filigree::check_cuda((call), #call)
