// Grids that the tests of the gate's kernels share, and lists made on them.
#pragma once

#include <string>
#include <vector>

#include "kernels/attention/block_selection.hpp"
#include "tests/harness/tensor_source.hpp"

namespace filigree::testing {

inline BlockGrid grid_of(std::int64_t batch, std::int64_t heads, std::int64_t length,
                         std::int64_t query_block, std::int64_t key_block, bool causal = true) {
  BlockGrid grid;
  grid.batch = batch, grid.heads = heads, grid.causal = causal;
  grid.query_length = grid.key_length = length;
  grid.query_block = query_block, grid.key_block = key_block;
  return grid;
}

// Documents that begin at these positions, in every sequence.
inline BlockGrid with_documents(BlockGrid grid, const std::vector<std::int32_t>& begins) {
  grid.document_begin_T = Tensor::zeros({grid.batch * grid.key_length}, DType::i32);
  for (std::int64_t t = 0; t < grid.batch * grid.key_length; ++t)
    for (const std::int32_t begin : begins)
      if (t % grid.key_length >= begin) grid.document_begin_T.data<std::int32_t>()[t] = begin;
  return grid;
}

// The grid with its documents where the source puts tensors.
inline BlockGrid placed(TensorSource& source, BlockGrid grid) {
  grid.document_begin_T = source.given(grid.document_begin_T);
  return grid;
}

inline BlockGrid block_causal(BlockGrid grid) {
  grid.block_causal = true;
  return grid;
}

inline std::string describe(const BlockGrid& grid) {
  return str("batch ", grid.batch, " heads ", grid.heads, " length ", grid.query_length, " offset ",
             grid.query_offset, " groups of ", grid.query_block, " blocks of ", grid.key_block,
             " local ", grid.local_blocks, grid.causal ? "" : ", not causal",
             grid.block_causal ? ", block-causal" : "",
             grid.document_begin_T.defined() ? ", with documents" : "");
}

// Groups of 1, 16, 64 and 128, blocks of 16, 64 and 128, lengths that are multiples and that are
// not, one token and none, documents, a later part of a sequence, other numbers of local blocks,
// and an encoder.
inline std::vector<BlockGrid> gate_grids() {
  BlockGrid later = grid_of(2, 2, 230, 16, 16);
  later.query_length = 40, later.query_offset = 190;
  const auto with_local = [](BlockGrid grid, std::int64_t blocks) {
    grid.local_blocks = blocks;
    return grid;
  };
  return {grid_of(1, 2, 0, 16, 16),
          grid_of(2, 1, 1, 1, 16),
          grid_of(1, 2, 100, 1, 16),
          grid_of(2, 2, 200, 16, 16),
          grid_of(1, 2, 401, 64, 16),
          grid_of(1, 1, 513, 16, 64),
          grid_of(1, 1, 700, 128, 128),
          grid_of(1, 2, 390, 128, 16),
          grid_of(1, 2, 300, 64, 64),
          later,
          with_documents(grid_of(2, 2, 230, 16, 16), {0, 37, 64, 165}),
          with_documents(grid_of(1, 2, 130, 1, 16), {0, 5, 80}),
          block_causal(grid_of(2, 2, 150, 16, 16)),
          block_causal(grid_of(1, 2, 256, 64, 64)),
          block_causal(with_documents(grid_of(2, 2, 230, 16, 16), {0, 37, 64, 165, 167})),
          with_local(grid_of(1, 2, 200, 16, 16), 0),
          with_local(grid_of(1, 2, 230, 1, 16), 2),
          with_local(with_documents(grid_of(2, 2, 230, 32, 16), {0, 37, 64, 165}), 3),
          grid_of(2, 2, 150, 16, 16, false)};
}

struct Lists {
  Tensor counts, indices;
};

// Room for lists, filled with what no list holds.
inline Lists empty_lists(const BlockGrid& grid, std::int64_t capacity) {
  const Shape rows{grid.batch, grid.heads, grid.groups()};
  Lists lists{Tensor::empty(rows, DType::i32),
              Tensor::empty({grid.batch, grid.heads, grid.groups(), capacity}, DType::i32)};
  for (const Tensor& tensor : {lists.counts, lists.indices})
    for (std::int32_t& value : tensor.span<std::int32_t>()) value = 12345;
  return lists;
}

inline Tensor i32(const std::vector<std::int32_t>& values) {
  return Tensor::from<std::int32_t>({static_cast<std::int64_t>(values.size())}, values);
}

struct SelectOptions {
  SelectionRule rule = SelectionRule::top_k;
  double threshold = 0.0;
  std::int32_t budget = 0;  // of every group
  Tensor dense_heads;
  Tensor head_scores = {};
  double head_threshold = 0.0;
  std::int64_t capacity = -1;  // -1: every block
  std::string implementation = "cpu";
  int threads = 1;
};

inline Lists select(const BlockGrid& grid, const Tensor& scores, const SelectOptions& options) {
  ExecutionContext context;
  context.allocator = std::make_shared<PoisonAllocator>();
  context.num_threads = options.threads;
  context.forced_kernels["*"] = options.implementation;
  const Lists lists =
      empty_lists(grid, options.capacity < 0 ? grid.key_blocks() : options.capacity);
  dispatch<BlockSelect>({.grid = grid,
                         .rule = options.rule,
                         .threshold = options.threshold,
                         .scores_BHNM = scores,
                         .budgets_N = i32(std::vector<std::int32_t>(grid.groups(), options.budget)),
                         .dense_heads_H = options.dense_heads,
                         .head_scores_NH = options.head_scores,
                         .head_threshold = options.head_threshold,
                         .counts_BHN = lists.counts,
                         .indices_BHNJ = lists.indices},
                        context);
  return lists;
}

inline std::vector<std::int32_t> list_at(const Lists& lists, std::int64_t row) {
  const std::int64_t J = columns_of(lists.indices);
  const auto* begin = lists.indices.data<std::int32_t>() + row * J;
  return {begin, begin + lists.counts.data<std::int32_t>()[row]};
}

inline Tensor random_scores(const BlockGrid& grid, std::uint64_t stream) {
  return random_normal({grid.batch, grid.heads, grid.groups(), grid.key_blocks()}, stream);
}

// Lists of about `budget` blocks per group by random scores; what a gate without knowledge chooses.
inline Lists random_lists(const BlockGrid& grid, std::int32_t budget, std::uint64_t stream) {
  return select(grid, random_scores(grid, stream), {.budget = budget});
}

// Every second group, so that sampling and indexing are told apart.
inline std::vector<std::int32_t> sampled_groups(const BlockGrid& grid) {
  std::vector<std::int32_t> groups;
  for (std::int64_t n = grid.groups() - 1; n >= 0; n -= 2)
    groups.push_back(static_cast<std::int32_t>(n));
  return groups;
}

// ---- the rules, from tokens, for oracles ----

inline std::int64_t document_of(const BlockGrid& grid, std::int64_t b, std::int64_t position) {
  return grid.document_begin_T.defined()
             ? grid.document_begin_T.data<std::int32_t>()[b * grid.key_length + position]
             : 0;
}

// Block m has a score for group n: all of its tokens come before the block of the group's first
// token and belong to that token's document. Block-causal, the group's own block has one too, when
// all of its tokens are of that document.
inline bool has_score(const BlockGrid& grid, std::int64_t b, std::int64_t n, std::int64_t m) {
  if (!grid.causal) return true;
  const std::int64_t first = grid.first_position(n), begin = m * grid.key_block;
  const std::int64_t block_of_first = first - first % grid.key_block;
  if (grid.block_causal && begin == block_of_first) {
    bool one_document = true;
    for (std::int64_t t = begin; t < std::min(begin + grid.key_block, grid.key_length); ++t)
      one_document = one_document && document_of(grid, b, t) == document_of(grid, b, first) &&
                     document_of(grid, b, t) <= begin;
    return one_document;
  }
  return begin + grid.key_block <= block_of_first && begin >= document_of(grid, b, first);
}

// Query p may read key j.
inline bool may_read(const BlockGrid& grid, std::int64_t b, std::int64_t p, std::int64_t j) {
  return !grid.causal || (j <= p && j >= document_of(grid, b, p));
}

inline bool is_forced(const BlockGrid& grid, std::int64_t b, std::int64_t n, std::int64_t m) {
  const std::int64_t first = grid.first_position(n), end = grid.end_position(n);
  const auto holds = [&](std::int64_t t) { return t >= 0 && t / grid.key_block == m; };
  for (std::int64_t t = first; t < end; ++t)
    if (holds(t)) return true;
  if (!grid.causal) return false;
  const std::int64_t document = document_of(grid, b, first);
  if (grid.block_causal) return document % grid.key_block != 0 && holds(document);
  const std::int64_t diagonal = first - first % grid.key_block;
  for (std::int64_t t = std::max(document, diagonal - grid.local_blocks * grid.key_block);
       t < diagonal; ++t)
    if (holds(t)) return true;
  return holds(document);
}

}  // namespace filigree::testing
