// What the gathered forward and backward share: blocks of keys with their dims in rows, and the
// query rows that read a block.
#pragma once

#include "kernels/attention/attention_tiles.hpp"
#include "kernels/cpu/parallel_for.hpp"

namespace filigree {

// Every block of k or v transposed, [dim, key], the keys padded with zeros to whole vectors: the
// right operand of the products that give one query per row. As large as the tensor itself, up to
// the padding.
template <class T>
class TransposedBlocks {
 public:
  using Acc = Accumulator<T>;
  TransposedBlocks(const Tensor& rows, const AttentionShape& s, std::int64_t key_block,
                   const ExecutionContext& context)
      : blocks_(key_blocks(s, key_block)),
        heads_(s.kv_heads),
        lanes_(padded_to_lanes<Acc>(key_block)),
        block_size_(s.head_dim * lanes_),
        buffer_(context.empty({s.batch * heads_ * blocks_, block_size_}, dtype_of<Acc>)) {
    const std::int64_t stride = padded_to_lanes<Acc>(s.head_dim);
    const Scratch<Acc> scratch(context, context.num_threads, key_block * stride);
    parallel_for(
        s.batch * heads_ * blocks_, context.num_threads, [&](std::int64_t task, int thread) {
          const std::int64_t begin = task % blocks_ * key_block, head = task / blocks_;
          const std::int64_t count = std::min(key_block, s.key_length - begin);
          const auto block = view_rows<Acc, T>(
              const_head_rows<T>(rows, head / heads_, s.key_length, head % heads_, s.head_dim),
              begin, count, s.head_dim, scratch.of(thread));
          transpose_rows(block.data, block.stride, count, s.head_dim,
                         buffer_.data<Acc>() + task * block_size_, lanes_);
        });
  }
  std::int64_t lanes() const { return lanes_; }
  const Acc* of(std::int64_t b, std::int64_t g, std::int64_t block) const {
    return buffer_.data<Acc>() + ((b * heads_ + g) * blocks_ + block) * block_size_;
  }

 private:
  std::int64_t blocks_, heads_, lanes_, block_size_;
  Tensor buffer_;
};

// At most kQueryTile query rows of one head that read a block; no query twice.
template <class Acc>
struct GatheredRows {
  std::int64_t count = 0;
  std::int64_t query[kQueryTile], slot[kQueryTile];  // slot: element of bias_BHNJ, -1: none
  Acc first[kQueryTile], last[kQueryTile];           // keys [first, last) of the block are read
  Acc bias[kQueryTile];
};

// Finds the rows of one head that read a block of keys, block after block in ascending order.
template <class Acc>
class RowGatherer {
 public:
  // slots_used: one number per group of `groups`, the listed blocks that were passed: zeros before
  // block 0.
  RowGatherer(const AllowedKeys& allowed, const Tensor& bias_BHNJ, std::int64_t b, std::int64_t h,
              Interval groups, std::int32_t* slots_used)
      : allowed_(allowed),
        bias_(bias_BHNJ.defined() ? bias_BHNJ.data<Acc>() : nullptr),
        b_(b),
        h_(h),
        groups_(groups),
        slots_used_(slots_used) {}

  // Calls visit(GatheredRows) until all rows of the block are done, queries ascending. Has to see
  // every block, from 0 on: the slot of a block in the list of a group is the number of listed
  // blocks before it.
  template <class Visit>
  void for_each(std::int64_t block, Interval keys, const Visit& visit) const {
    GatheredRows<Acc> rows;
    const auto flush = [&] {
      if (rows.count > 0) visit(static_cast<const GatheredRows<Acc>&>(rows));
      rows.count = 0;
    };
    allowed_.for_each_group(b_, h_, block, groups_, [&](std::int64_t group, bool chosen) {
      std::int64_t slot = -1;
      if (chosen) slot = allowed_.slot_index(b_, h_, group, slots_used_[group - groups_.begin]++);
      const Interval queries = allowed_.queries_of(group);
      for (std::int64_t i = queries.begin; i < queries.end; ++i) {
        const KeyPieces pieces = allowed_.pieces(b_, i, keys, chosen);
        add(i, pieces.piece[0], keys.begin, slot, &rows);
        // A query's second piece has to wait until its first is merged.
        if (rows.count == kQueryTile || !pieces.piece[1].empty()) flush();
        add(i, pieces.piece[1], keys.begin, slot, &rows);
      }
    });
    flush();
  }

 private:
  void add(std::int64_t query, Interval piece, std::int64_t begin, std::int64_t slot,
           GatheredRows<Acc>* rows) const {
    if (piece.empty()) return;
    const std::int64_t r = rows->count++;
    rows->query[r] = query, rows->slot[r] = slot;
    rows->first[r] = static_cast<Acc>(piece.begin - begin);
    rows->last[r] = static_cast<Acc>(piece.end - begin);
    rows->bias[r] = bias_ != nullptr && slot >= 0 ? bias_[slot] : Acc(0);
  }

  const AllowedKeys& allowed_;
  const Acc* bias_;
  std::int64_t b_, h_;
  Interval groups_;
  std::int32_t* slots_used_;
};

// to[r, :] = from[index[r], :] and back, rows of `stride` elements.
template <class Acc>
void gather_rows(const Acc* from, const std::int64_t* index, std::int64_t count,
                 std::int64_t stride, Acc* to) {
  for (std::int64_t r = 0; r < count; ++r)
    std::copy_n(from + index[r] * stride, stride, to + r * stride);
}
template <class Acc>
void scatter_rows(const Acc* from, const std::int64_t* index, std::int64_t count,
                  std::int64_t stride, Acc* to) {
  for (std::int64_t r = 0; r < count; ++r)
    std::copy_n(from + r * stride, stride, to + index[r] * stride);
}

// The same from the rows of a head, padded with zeros to `stride`.
template <class Acc, class T>
void gather_head_rows(HeadRows<const T> rows, const std::int64_t* index, std::int64_t count,
                      std::int64_t head_dim, Acc* to, std::int64_t stride) {
  for (std::int64_t r = 0; r < count; ++r) {
    if constexpr (std::is_same_v<Acc, T>) {
      if (head_dim == stride) {
        std::copy_n(rows.row(index[r]), stride, to + r * stride);
        continue;
      }
    }
    load_rows<Acc, T>(rows, index[r], 1, head_dim, to + r * stride, stride);
  }
}

// One number per row.
template <class Acc>
void gather_numbers(const Acc* from, const std::int64_t* index, std::int64_t count, Acc* to) {
  for (std::int64_t r = 0; r < count; ++r) to[r] = from[index[r]];
}
template <class Acc>
void scatter_numbers(const Acc* from, const std::int64_t* index, std::int64_t count, Acc* to) {
  for (std::int64_t r = 0; r < count; ++r) to[index[r]] = from[r];
}

}  // namespace filigree
