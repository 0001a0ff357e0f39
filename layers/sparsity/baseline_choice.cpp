#include "layers/sparsity/baseline_choice.hpp"

#include <algorithm>
#include <cstring>

#include "kernels/attention/block_selection.hpp"
#include "kernels/gate/gate_scores.hpp"
#include "kernels/gate/pooling.hpp"
#include "kernels/random/normal_fill.hpp"
#include "runtime/core/random.hpp"

namespace filigree {
namespace {

Tensor part_of(const Tensor& all, std::int64_t index, const Shape& shape) {
  return all.flat(index * shape.numel(), shape);
}

Tensor random_scores(ExecutionContext& execution, const BatchInfo& batch, const BlockGrid& grid,
                     DType dtype, std::int64_t layer, std::int64_t first_head) {
  const std::int64_t cells = grid.groups() * grid.key_blocks();
  const std::int64_t first_sequence = batch.length == 0 ? 0 : batch.first_token / batch.length;
  const Tensor scores =
      execution.empty({grid.batch, grid.heads, grid.groups(), grid.key_blocks()}, dtype);
  for (std::int64_t b = 0; b < grid.batch; ++b)
    for (std::int64_t h = 0; h < grid.heads; ++h)
      dispatch<NormalFill>({.x_RC = part_of(scores, b * grid.heads + h, {1, cells}),
                            .seed = batch.seed,
                            .stream = hash_text(str("random choice ", layer, ' ', batch.step.once(),
                                                    ' ', first_sequence + b, ' ', first_head + h)),
                            .global_columns = cells},
                           execution);
  return scores;
}

// [rows, G*K] -> [rows, H*K]: every query head with the key head that it reads.
Tensor for_query_heads(ExecutionContext& execution, const Tensor& key_heads,
                       const AttentionShape& s) {
  const Tensor keys = execution.download(key_heads);
  const Tensor result = Tensor::empty({keys.dim(0), s.query_heads * s.head_dim}, keys.dtype());
  const auto head_bytes = static_cast<std::size_t>(s.head_dim * size_of(keys.dtype()));
  const std::int64_t sharing = s.query_heads / s.kv_heads;
  for (std::int64_t row = 0; row < keys.dim(0); ++row)
    for (std::int64_t h = 0; h < s.query_heads; ++h)
      std::memcpy(static_cast<std::byte*>(result.raw()) +
                      static_cast<std::size_t>(row * s.query_heads + h) * head_bytes,
                  static_cast<const std::byte*>(keys.raw()) +
                      static_cast<std::size_t>(row * s.kv_heads + h / sharing) * head_bytes,
                  head_bytes);
  return execution.upload(result);
}

Tensor pooled(ExecutionContext& execution, const Tensor& rows, const BlockGrid& grid,
              std::int64_t block, std::int64_t count) {
  const Tensor means = execution.empty({grid.batch * count, rows.dim(1)}, rows.dtype());
  dispatch<BlockMeanKeys>({.batch = grid.batch, .key_block = block, .k_TC = rows, .kbar_MC = means},
                          execution);
  return means;
}

Tensor mean_pooled_scores(ExecutionContext& execution, const AttentionInput& input,
                          const BlockGrid& grid, DType dtype) {
  const Tensor q = input.q_THK.value();
  Tensor queries;
  if (grid.block_causal) {
    queries = pooled(execution, q, grid, grid.query_block, grid.groups());
  } else {
    queries = execution.empty({grid.batch * grid.groups(), q.dim(1)}, q.dtype());
    dispatch<GroupQueries>(
        {.batch = grid.batch, .query_block = grid.query_block, .q_TC = q, .qg_NC = queries},
        execution);
  }
  const Tensor keys =
      pooled(execution, input.k_TGK.value(), grid, grid.key_block, grid.key_blocks());
  const Tensor scores =
      execution.empty({grid.batch, grid.heads, grid.groups(), grid.key_blocks()}, dtype);
  dispatch<GateScores>({.grid = grid,
                        .scale = input.shape.scale,
                        .qg_NHE = queries,
                        .kg_MHE = for_query_heads(execution, keys, input.shape),
                        .z_BHNM = scores},
                       execution);
  return scores;
}

// A head that reads nothing has not even the forced blocks.
void drop_where_empty(const ExecutionContext& execution, BlockLists& lists,
                      const BlockLists& like) {
  const Tensor wanted = execution.download(like.counts_BHN);
  const Tensor counts = execution.download(lists.counts_BHN);
  const Tensor indices = execution.download(lists.indices_BHNJ);
  const std::int64_t capacity = indices.dim(3);
  for (std::int64_t i = 0; i < wanted.numel(); ++i) {
    if (wanted.data<std::int32_t>()[i] != 0) continue;
    counts.data<std::int32_t>()[i] = 0;
    std::fill_n(indices.data<std::int32_t>() + i * capacity, capacity, -1);
  }
  lists.counts_BHN = execution.upload(counts);
  lists.indices_BHNJ = execution.upload(indices);
}

}  // namespace

// Head by head, since the budget of a group is what its own list in `like` has.
BlockLists choose_as_many(ExecutionContext& execution, const Tensor& scores, const BlockGrid& grid,
                          const BlockLists& like) {
  const std::int64_t groups = grid.groups(), capacity = like.indices_BHNJ.dim(3);
  BlockLists lists;
  lists.query_block = grid.query_block;
  lists.key_block = grid.key_block;
  lists.counts_BHN = execution.empty(like.counts_BHN.shape(), DType::i32);
  lists.indices_BHNJ = execution.empty(like.indices_BHNJ.shape(), DType::i32);
  BlockGrid one = grid;
  one.batch = one.heads = 1;
  for (std::int64_t i = 0; i < grid.batch * grid.heads; ++i) {
    if (grid.document_begin_T.defined())
      one.document_begin_T = grid.document_begin_T.rows(i / grid.heads * grid.key_length,
                                                        (i / grid.heads + 1) * grid.key_length);
    dispatch<BlockSelect>(
        {.grid = one,
         .rule = SelectionRule::top_k,
         .scores_BHNM = part_of(scores, i, {1, 1, groups, grid.key_blocks()}),
         .budgets_N = part_of(like.counts_BHN, i, {groups}),
         .counts_BHN = part_of(lists.counts_BHN, i, {1, 1, groups}),
         .indices_BHNJ = part_of(lists.indices_BHNJ, i, {1, 1, groups, capacity})},
        execution);
  }
  drop_where_empty(execution, lists, like);
  return lists;
}

BaselineChoices baseline_choices(ExecutionContext& execution, const AttentionInput& input,
                                 const BlockGrid& grid, const BlockLists& lists, std::int64_t layer,
                                 std::int64_t first_head) {
  const WorkMark before = execution.mark_work();
  const DType dtype = accumulation_dtype(input.q_THK.value().dtype());
  const BaselineChoices choices{
      choose_as_many(execution,
                     random_scores(execution, input.batch, grid, dtype, layer, first_head), grid,
                     lists),
      choose_as_many(execution, mean_pooled_scores(execution, input, grid, dtype), grid, lists)};
  execution.forget_work_since(before);
  return choices;
}

}  // namespace filigree
