// Fixed choices of key blocks, as cells of a map: row n is a block of queries, column m a block of
// keys of the same size. The published patterns, block by block.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/attention/block_lists.hpp"

namespace filigree {

// cells[(h * blocks + n) * blocks + m] is 1 where head h's query block n reads key block m.
struct BlockLayout {
  std::int64_t heads = 0, blocks = 0;
  std::vector<std::uint8_t> cells;

  BlockLayout(std::int64_t heads, std::int64_t blocks);
  bool at(std::int64_t head, std::int64_t row, std::int64_t column) const;
  // Sets the part of rows [row_begin, row_end) x columns [column_begin, column_end) that lies in
  // the map.
  void set(std::int64_t head, std::int64_t row_begin, std::int64_t row_end,
           std::int64_t column_begin, std::int64_t column_end);
  // Clears every cell above the diagonal.
  void keep_causal();
};

// What the patterns need to know of the model: the global number of the first of this rank's heads,
// so that a head has the same pattern on every layout.
struct LayoutShape {
  std::int64_t heads = 0, first_head = 0, blocks = 0;
  bool causal = true;
};

// DeepSpeed's sparse attention (deepspeed/ops/sparse_attention/sparsity_config.py). Defaults are
// DeepSpeed's. Causal layouts are cut at the diagonal.

// Windows of `local` blocks read themselves; the last `global` blocks of every window (of pattern h
// mod `patterns`: the blocks before those) are read by all rows, or by all later ones when causal.
struct FixedLayout {
  std::int64_t local = 4, global = 1, patterns = 1;
  bool horizontal = false;  // global blocks also read everything (not when causal)
};
BlockLayout fixed_layout(const FixedLayout& options, const LayoutShape& shape);

// Windows of the given sizes in turn, the last size repeated; single global blocks; random blocks
// in every row.
struct VariableLayout {
  std::vector<std::int64_t> windows = {4};
  std::vector<std::int64_t> global = {0};
  std::int64_t random = 0;
  bool horizontal = false;
  std::uint64_t seed = 0;
};
BlockLayout variable_layout(const VariableLayout& options, const LayoutShape& shape);

// A window of `sliding` blocks centred on the row, the first `global` rows and columns, `random`
// blocks in every row (Zaheer et al. 2020, "Big Bird").
struct BigBirdLayout {
  std::int64_t sliding = 3, global = 1, random = 1;
  std::uint64_t seed = 0;
};
BlockLayout bigbird_layout(const BigBirdLayout& options, const LayoutShape& shape);

// A window centred on the row and single global rows and columns (Beltagy et al. 2020,
// "Longformer").
struct LongformerLayout {
  std::int64_t sliding = 3;
  std::vector<std::int64_t> global = {0};
};
BlockLayout longformer_layout(const LongformerLayout& options, const LayoutShape& shape);

// A window of `sliding` blocks centred on the row; when causal the half of it up to the row.
BlockLayout sliding_layout(std::int64_t sliding, const LayoutShape& shape);

// S2-Attention (Lin et al. 2024, arXiv 2407.17678): row n reads column m when n - m < local, or
// when (m + head * step + offset) is a multiple of stride: heads shift the columns so that together
// they see everything.
struct StridedLayout {
  std::int64_t local = 4, stride = 8, step = 1, offset = 0;
};
BlockLayout strided_layout(const StridedLayout& options, const LayoutShape& shape);

// The same lists for each of `batch` sequences in blocks of `block` tokens, with their transpose,
// of the rows from `first_row` on: row first_row is group 0, as attention that continues a sequence
// wants it.
BlockLists lists_of(const BlockLayout& layout, std::int64_t batch, std::int64_t block,
                    std::int64_t first_row = 0);

}  // namespace filigree
