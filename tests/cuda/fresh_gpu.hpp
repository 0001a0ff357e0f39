// The GPU of a test: the emulator's where the test is compiled for that, the machine's first one
// otherwise.
#pragma once

#include <cstdint>

#ifdef FILIGREE_SIMT
#include <simt/launch.hpp>
#endif

#include "runtime/cuda/cuda_device.hpp"

namespace filigree::testing {

// A context on it. The emulator starts anew and orders blocks, threads and streams by `seed`.
inline ExecutionContext fresh_gpu([[maybe_unused]] std::uint64_t seed = 0) {
#ifdef FILIGREE_SIMT
  simt::Options options;
  options.seed = seed;
  simt::reset(options);
#endif
  return make_cuda_context(0);
}

}  // namespace filigree::testing
