// What the tiled forward and backward share: tile sizes, scratch memory, moving rows of a head in
// and out of tiles, and the runs of keys that a tile of queries reads.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <type_traits>
#include <vector>

#include "kernels/attention/allowed_keys.hpp"
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

template <class T>
HeadRows<const T> const_head_rows(const Tensor& tensor, std::int64_t sequence, std::int64_t length,
                                  std::int64_t head, std::int64_t head_dim) {
  const HeadRows<T> rows = head_rows<T>(tensor, sequence, length, head, head_dim);
  return {rows.data, rows.stride};
}

// o = values / sum, lse = maximum + log(sum); zeros and -infinity for a query that saw no key.
// values[d] stands at values[d * stride].
template <class T, class Acc>
void finish_row(const Acc* values, std::int64_t stride, std::int64_t head_dim, Acc maximum, Acc sum,
                T* o, Acc* lse) {
  constexpr Acc kMinusInfinity = -std::numeric_limits<Acc>::infinity();
  const bool empty = maximum == kMinusInfinity;
  for (std::int64_t d = 0; d < head_dim; ++d)
    o[d] = static_cast<T>(empty ? Acc(0) : values[d * stride] / sum);
  *lse = empty ? kMinusInfinity : maximum + std::log(sum);
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

// to[i] = lse[i], and +infinity, so that p = exp(s - lse) is 0, for queries that saw no key and for
// lanes without a query.
template <class Acc>
void load_lse(const Acc* lse, std::int64_t count, std::int64_t lanes, Acc* to) {
  constexpr Acc kInfinity = std::numeric_limits<Acc>::infinity();
  for (std::int64_t i = 0; i < count; ++i) to[i] = lse[i] == -kInfinity ? kInfinity : lse[i];
  std::fill(to + count, to + lanes, kInfinity);
}

// delta[i] += <do[i], o[begin + i]>, by the chain of multiply-adds of the tile product: a query
// whose softmax has a single key then gets dp - delta = 0 exactly. Eight queries at a time keep
// eight chains in flight.
template <class Acc, class T>
void add_delta(HeadRows<const T> out, std::int64_t begin, std::int64_t count, std::int64_t head_dim,
               const Acc* do_QK, std::int64_t stride, Acc* delta) {
  constexpr std::int64_t kBlock = 8;
  for (std::int64_t block = 0; block < count; block += kBlock)
    for (std::int64_t d = 0; d < head_dim; ++d)
      for (std::int64_t i = block; i < std::min(block + kBlock, count); ++i)
        delta[i] =
            std::fma(do_QK[i * stride + d], static_cast<Acc>(out.row(begin + i)[d]), delta[i]);
}

// The tiles of queries of a sequence: kQueryTile at a time, and with lists never across two groups,
// so that a tile reads one list and nothing in vain.
inline std::vector<Interval> query_tiles(const AttentionShape& shape, const AllowedKeys& allowed) {
  std::vector<Interval> tiles;
  for (std::int64_t i = 0; i < shape.query_length;) {
    std::int64_t end = std::min(i + kQueryTile, shape.query_length);
    if (allowed.has_lists()) end = std::min(end, allowed.queries_of(allowed.group_of(i)).end);
    tiles.push_back({i, end});
    i = end;
  }
  return tiles;
}

// Keys [begin, begin + count) that a tile of queries reads. Per lane: keys [first, last) of the run
// may be seen; null: from the first, up to the last. slot as in KeyBlock.
template <class Acc>
struct KeyRun {
  std::int64_t begin, count, slot;
  const Acc* first;
  const Acc* last;
};

// Finds the runs of at most kKeyTile keys that the queries of one tile read.
template <class Acc>
class KeyRuns {
 public:
  // first, last: buffers of kQueryTile elements.
  KeyRuns(const AllowedKeys& allowed, std::int64_t b, std::int64_t h, Interval queries, Acc* first,
          Acc* last)
      : allowed_(allowed), b_(b), h_(h), queries_(queries), first_(first), last_(last) {}

  // Calls visit(KeyRun) in a fixed order: blocks ascending, within one the sinks first. Keys that
  // no query of the tile reads are not visited.
  template <class Visit>
  void for_each(const Visit& visit) const {
    const Interval common{allowed_.reachable(b_, queries_.end - 1).begin,
                          allowed_.reachable(b_, queries_.begin).end};
    allowed_.for_each_block(b_, h_, queries_, [&](const KeyBlock& block) {
      for (std::int64_t begin = block.keys.begin; begin < block.keys.end; begin += kKeyTile) {
        const Interval keys{begin, std::min(begin + kKeyTile, block.keys.end)};
        if (block.chosen && keys.begin >= common.begin && keys.end <= common.end) {
          visit(KeyRun<Acc>{keys.begin, keys.count(), block.slot, nullptr, nullptr});
          continue;
        }
        for (int piece = 0; piece <= (allowed_.may_split() && !block.chosen); ++piece)
          visit_piece(keys, block, piece, visit);
      }
    });
  }

 private:
  template <class Visit>
  void visit_piece(Interval keys, const KeyBlock& block, int piece, const Visit& visit) const {
    Interval lanes[kQueryTile];
    Interval all{keys.end, keys.begin};
    bool from_the_first = true;
    for (std::int64_t i = 0; i < queries_.count(); ++i) {
      lanes[i] = allowed_.pieces(b_, queries_.begin + i, keys, block.chosen).piece[piece];
      if (lanes[i].empty()) continue;
      all = {std::min(all.begin, lanes[i].begin), std::max(all.end, lanes[i].end)};
    }
    if (all.empty()) return;
    for (std::int64_t i = 0; i < kQueryTile; ++i) {
      const Interval lane = i < queries_.count() && !lanes[i].empty() ? lanes[i] : Interval{};
      first_[i] = lane.empty() ? Acc(0) : static_cast<Acc>(lane.begin - all.begin);
      last_[i] = lane.empty() ? Acc(0) : static_cast<Acc>(lane.end - all.begin);
      from_the_first = from_the_first && first_[i] == 0;
    }
    visit(
        KeyRun<Acc>{all.begin, all.count(), block.slot, from_the_first ? nullptr : first_, last_});
  }

  const AllowedKeys& allowed_;
  std::int64_t b_, h_;
  Interval queries_;
  Acc* first_;
  Acc* last_;
};

}  // namespace filigree
