#include "layers/sparsity/block_choice.hpp"

namespace filigree {

BlockLists choose_blocks(ExecutionContext& execution, const BlockGrid& grid,
                         const ChoiceInputs& inputs) {
  const BlockBudget::Choice& budget = inputs.budget;
  const std::int64_t groups = grid.groups(), blocks = grid.key_blocks();
  const auto indices = [&](const Shape& shape) {
    return execution.empty(shape, DType::i32, MemoryUse::activations);
  };
  BlockLists lists;
  lists.query_block = grid.query_block;
  lists.key_block = grid.key_block;
  lists.counts_BHN = indices({grid.batch, grid.heads, groups});
  lists.indices_BHNJ = indices({grid.batch, grid.heads, groups, budget.capacity});
  lists.transposed_counts_BHM = indices({grid.batch, grid.heads, blocks});
  lists.transposed_indices_BHMN = indices({grid.batch, grid.heads, blocks, groups});
  dispatch<BlockSelect>({.grid = grid,
                         .rule = budget.rule,
                         .threshold = budget.threshold,
                         .scores_BHNM = inputs.scores_BHNM,
                         .budgets_N = budget.budgets_N,
                         .dense_heads_H = inputs.dense_heads_H,
                         .head_scores_NH = inputs.head_scores_NH,
                         .head_threshold = budget.head_threshold,
                         .counts_BHN = lists.counts_BHN,
                         .indices_BHNJ = lists.indices_BHNJ},
                        execution);
  dispatch<BlockTranspose>({.counts_BHN = lists.counts_BHN,
                            .indices_BHNJ = lists.indices_BHNJ,
                            .transposed_counts_BHM = lists.transposed_counts_BHM,
                            .transposed_indices_BHMN = lists.transposed_indices_BHMN},
                           execution);
  return lists;
}

}  // namespace filigree
