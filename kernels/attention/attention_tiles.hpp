// What the tiled forward and backward share: tile sizes, scratch memory, and moving rows of a head
// in and out of tiles.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "kernels/attention/key_tiles.hpp"
#include "kernels/cpu/tile_kernels.hpp"
#include "kernels/elementwise/floating.hpp"

namespace filigree {

// 64 x 64 scores (16 KiB in f32) stay in the first-level cache between the products that make and
// use them.
inline constexpr std::int64_t kQueryTile = 64;
inline constexpr std::int64_t kKeyTile = 64;

// The rows of one head in a token-major tensor: row t starts at data + t * stride.
template <class T>
struct HeadRows {
  T* data;
  std::int64_t stride;
  T* row(std::int64_t t) const { return data + t * stride; }
};

// Head `head` of the sequence `sequence` of `length` tokens.
template <class T>
HeadRows<T> head_rows(const Tensor& tensor, std::int64_t sequence, std::int64_t length,
                      std::int64_t head, std::int64_t head_dim) {
  const std::int64_t stride = tensor.dim(1);
  return {tensor.data<T>() + sequence * length * stride + head * head_dim, stride};
}

// One buffer per thread, cut into pieces that start on vector boundaries.
template <class Acc>
class Scratch {
 public:
  Scratch(const ExecutionContext& context, int threads, std::int64_t elements_per_thread)
      : stride_(padded_to_lanes<Acc>(elements_per_thread)),
        buffer_(context.empty({threads, stride_}, dtype_of<Acc>)) {}
  Acc* of(int thread) const { return buffer_.data<Acc>() + thread * stride_; }

 private:
  std::int64_t stride_;
  Tensor buffer_;
};

// Cuts pieces off a scratch buffer.
template <class Acc>
class Pieces {
 public:
  explicit Pieces(Acc* begin) : next_(begin) {}
  Acc* take(std::int64_t count) {
    Acc* const piece = next_;
    next_ += padded_to_lanes<Acc>(count);
    return piece;
  }

 private:
  Acc* next_;
};

// to[i, d] = rows[i, d], the row padded with zeros to `stride`.
template <class Acc, class T>
void load_rows(HeadRows<const T> rows, std::int64_t begin, std::int64_t count,
               std::int64_t head_dim, Acc* to, std::int64_t stride) {
  for (std::int64_t i = 0; i < count; ++i) {
    const T* const from = rows.row(begin + i);
    for (std::int64_t d = 0; d < head_dim; ++d) to[i * stride + d] = static_cast<Acc>(from[d]);
    std::fill(to + i * stride + head_dim, to + (i + 1) * stride, Acc(0));
  }
}

// to[d, i] = from[i, d] for i < count, 0 for the lanes beyond: one query per lane.
template <class Acc>
void transpose_rows(const Acc* from, std::int64_t stride, std::int64_t count, std::int64_t head_dim,
                    Acc* to, std::int64_t lanes) {
  constexpr std::int64_t kBlock = 8;  // rows whose cache lines are open at once
  for (std::int64_t begin = 0; begin < count; begin += kBlock)
    for (std::int64_t d = 0; d < head_dim; ++d)
      for (std::int64_t i = begin; i < std::min(begin + kBlock, count); ++i)
        to[d * lanes + i] = from[i * stride + d];
  for (std::int64_t d = 0; d < head_dim; ++d)
    std::fill(to + d * lanes + count, to + (d + 1) * lanes, Acc(0));
}

// A run of keys (or values) in the accumulation type.
template <class Acc>
struct TileView {
  const Acc* data;
  std::int64_t stride;
};

// The rows themselves where they have the right type and need no padding, else a copy in `buffer`.
template <class Acc, class T>
TileView<Acc> view_rows(HeadRows<const T> rows, std::int64_t begin, std::int64_t count,
                        std::int64_t head_dim, Acc* buffer) {
  if constexpr (std::is_same_v<Acc, T>)
    if (head_dim % kTileLanes<Acc> == 0) return {rows.row(begin), rows.stride};
  const std::int64_t stride = padded_to_lanes<Acc>(head_dim);
  load_rows<Acc, T>(rows, begin, count, head_dim, buffer, stride);
  return {buffer, stride};
}

// allowed[i] = how many keys of the tile query query_begin + i may see; null when all may see all.
template <class Acc>
const Acc* allowed_keys(const AttentionShape& shape, const KeyTile& tile, std::int64_t query_begin,
                        std::int64_t lanes, Acc* allowed) {
  if (tile.full) return nullptr;
  for (std::int64_t i = 0; i < lanes; ++i)
    allowed[i] = static_cast<Acc>(
        std::clamp<std::int64_t>(visible_keys(shape, query_begin + i) - tile.begin, 0, tile.count));
  return allowed;
}

}  // namespace filigree
