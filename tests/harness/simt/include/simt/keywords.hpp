// CUDA's declaration keywords for a host compiler.
#pragma once

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define __grid_constant__
#define __align__(bytes) alignas(bytes)
// A plain variable: the loader puts it into static data, which device code may read.
#define __constant__
// Blocks run one after the other on the host thread that drains a stream, so that a thread-local
// variable is one copy for each running block. A dynamically sized array must come from
// simt::shared_memory(): `extern __shared__` does not compile here.
#define __shared__ static thread_local
