// Rows of heads as operands and results of tile products: what the gate's fast versions share.
#pragma once

#include "kernels/attention/attention_tiles.hpp"
#include "kernels/elementwise/loops.hpp"

namespace filigree {

// Threads for a product of so many operations. Two threads draw level with one at about 4 million
// (50 microseconds) and gain a quarter at 16 million; but where other programs keep the cores busy,
// a thread that is waited for may be away for its whole time slice, tens of milliseconds. Below 16
// million there is too little to gain.
inline int threads_for(const ExecutionContext& context, std::int64_t flops) {
  return flops < 16 * 1024 * 1024 ? 1 : std::max(1, context.num_threads);
}

// Head `head` of a token-major tensor [T, heads * width].
template <class T>
HeadRows<T> head_rows(const Tensor& tensor, std::int64_t head, std::int64_t width) {
  return {tensor.data<std::remove_const_t<T>>() + head * width, tensor.dim(1)};
}

// A left operand: rows in place where they have the accumulation type, else a copy in `buffer`.
// Unlike a right one it needs no padding.
template <class A, class T>
TileView<A> operand(HeadRows<const T> rows, std::int64_t begin, std::int64_t count,
                    std::int64_t width, A* buffer) {
  if constexpr (std::is_same_v<A, T>) {
    return {rows.row(begin), rows.stride};
  } else {
    const std::int64_t stride = padded_to_lanes<A>(width);
    load_rows<A, T>(rows, begin, count, width, buffer, stride);
    return {buffer, stride};
  }
}

// to[c, r] = rows[r, c] for r < count, 0 for the lanes beyond: a right operand of `width` rows.
template <class A, class T>
void pack_transposed(HeadRows<const T> rows, std::int64_t count, std::int64_t width, A* to,
                     std::int64_t lanes) {
  constexpr std::int64_t kBlock = 8;  // rows whose cache lines are open at once
  for (std::int64_t begin = 0; begin < count; begin += kBlock)
    for (std::int64_t c = 0; c < width; ++c)
      for (std::int64_t r = begin; r < std::min(begin + kBlock, count); ++r)
        to[c * lanes + r] = static_cast<A>(rows.row(r)[c]);
  for (std::int64_t c = 0; c < width; ++c)
    std::fill(to + c * lanes + count, to + (c + 1) * lanes, A{0});
}

// rows[begin + i, c] = factor * sums[i, c] (+ what is there when accumulate).
template <class A, class T>
void store_rows(const A* sums, std::int64_t stride, std::int64_t count, std::int64_t width,
                A factor, HeadRows<T> rows, std::int64_t begin, bool accumulate) {
  for (std::int64_t i = 0; i < count; ++i) {
    const A* const from = sums + i * stride;
    T* const to = rows.row(begin + i);
    if (accumulate)
      vector_loop(0, width, [=](std::int64_t c) { to[c] = T(widened(to[c]) + factor * from[c]); });
    else
      vector_loop(0, width, [=](std::int64_t c) { to[c] = T(factor * from[c]); });
  }
}

}  // namespace filigree
