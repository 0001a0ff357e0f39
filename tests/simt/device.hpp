// What differs between nvcc and the emulator in these test kernels: launches and dynamic shared
// memory.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <utility>

namespace simt_test {

#ifdef FILIGREE_SIMT

inline unsigned char* dynamic_shared() { return simt::shared_memory(); }

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes,
            cudaStream_t stream, Arguments&&... arguments) {
  simt::launch(kernel, grid, block, shared_bytes, stream, std::forward<Arguments>(arguments)...);
}

#else

__device__ inline unsigned char* dynamic_shared() {
  extern __shared__ __align__(128) unsigned char bytes[];
  return bytes;
}

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes,
            cudaStream_t stream, Arguments&&... arguments) {
  kernel<<<grid, block, shared_bytes, stream>>>(std::forward<Arguments>(arguments)...);
}

#endif

}  // namespace simt_test
