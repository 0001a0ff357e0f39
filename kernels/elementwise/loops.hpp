// The loops that the fast CPU versions share: fixed chunks over threads, vectors within a chunk.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/parallel_for.hpp"
#include "runtime/core/execution.hpp"

namespace filigree {

// Elements that a thread should find before it is worth waking: about 20 microseconds of streaming.
inline constexpr std::int64_t kParallelElements = 64 * 1024;
// Elements of one chunk of an element-wise op: its streams stay in the second-level cache.
inline constexpr std::int64_t kChunkElements = 16 * 1024;

// body(begin, end) for [0, items) cut into chunks of `chunk` items. The cut does not depend on the
// number of threads, so neither does anything that the body computes per chunk. item_elements:
// elements touched per item.
template <class Body>
void for_each_chunk(const ExecutionContext& context, std::int64_t items, std::int64_t chunk,
                    std::int64_t item_elements, const Body& body) {
  const bool worth_it = items * item_elements >= kParallelElements;
  parallel_for(
      (items + chunk - 1) / chunk, worth_it ? context.num_threads : 1,
      [&](std::int64_t task, int) { body(task * chunk, std::min(items, (task + 1) * chunk)); });
}

// Rows per chunk when every row is independent.
inline std::int64_t rows_per_chunk(std::int64_t columns) {
  return std::max<std::int64_t>(1, kChunkElements / std::max<std::int64_t>(1, columns));
}

// body(i) for i in [begin, end), in vectors. Iterations may not depend on each other; writing the
// element that the same iteration reads is fine.
template <class Body>
inline void vector_loop(std::int64_t begin, std::int64_t end, const Body& body) {
#pragma omp simd
  for (std::int64_t i = begin; i < end; ++i) body(i);
}

// For bodies with calls into libm, which cannot be vectors.
template <class Body>
inline void scalar_loop(std::int64_t begin, std::int64_t end, const Body& body) {
  for (std::int64_t i = begin; i < end; ++i) body(i);
}

}  // namespace filigree
