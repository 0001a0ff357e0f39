// Launching a kernel: one form for GPUs and for the emulator of the tests.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <limits>
#include <type_traits>

#include "kernels/dispatch.hpp"
#include "runtime/cuda/cuda_check.hpp"

namespace filigree {

struct LaunchShape {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes = 0;  // dynamic
};

// Throws UserError for more than CUDA allows (Programming Guide, "Technical Specifications per
// Compute Capability").
inline void check_grid(const dim3& grid) {
  constexpr unsigned kMostX = 0x7fffffffu, kMostYZ = 65535;
  if (grid.x <= kMostX && grid.y <= kMostYZ && grid.z <= kMostYZ) return;
  throw UserError(str("a grid of ", grid.x, " x ", grid.y, " x ", grid.z,
                      " blocks, one for each sequence, head or tile, is more than CUDA allows (",
                      kMostX, " x ", kMostYZ, " x ", kMostYZ, "): use a smaller micro-batch"));
}

// Enqueues the kernel on the context's stream; a grid without blocks is nothing to do. Arguments
// are converted to the kernel's parameters.
template <class... Parameters>
void launch(const ExecutionContext& context, const LaunchShape& shape,
            void (*kernel)(Parameters...), std::type_identity_t<Parameters>... arguments) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
  check_grid(shape.grid);
  FILIGREE_CHECK_CUDA(cudaSetDevice(context.device.index));
  const auto stream = static_cast<cudaStream_t>(context.stream->native());
#ifdef FILIGREE_SIMT
  simt::launch(kernel, shape.grid, shape.block, shape.shared_bytes, stream, arguments...);
#else
  kernel<<<shape.grid, shape.block, shape.shared_bytes, stream>>>(arguments...);
  check_cuda(cudaGetLastError(), "kernel launch");
#endif
}

inline unsigned blocks_for(std::int64_t count, std::int64_t per_block) {
  const std::int64_t blocks = (count + per_block - 1) / per_block;
  FILIGREE_CHECK(blocks <= std::numeric_limits<unsigned>::max(), blocks, " blocks of ", per_block,
                 " for ", count, " elements are more than a grid can count");
  return static_cast<unsigned>(blocks);
}

}  // namespace filigree
