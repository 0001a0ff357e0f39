// What mechanisms with a learned gate have in common: from scores to lists, and the comparison of
// the scores with dense attention, which teaches the gate and shows how good its choice is.
#pragma once

#include "layers/functional/gate.hpp"
#include "layers/sparsity/block_budget.hpp"
#include "layers/sparsity/mechanism.hpp"

namespace filigree {

// The lists, with their transpose, of the blocks that the budget takes by these scores [B,H,N,M].
// dense_heads: u8 [H] or undefined; head_scores: of a head gate [B*N, H], whose groups below the
// budget's head_threshold list nothing, or undefined.
BlockLists choose_blocks(ExecutionContext& execution, const Tensor& z_BHNM, const BlockGrid& grid,
                         const BlockBudget::Choice& budget, const Tensor& dense_heads_H,
                         const Tensor& head_scores_NH = {});

// What the comparison knows of its layer.
struct GateComparison {
  const Mesh* mesh = nullptr;
  std::int64_t layer = 0;
  std::int64_t sparse_heads = 0;  // of the whole model's layer
  std::int64_t first_head = 0;    // of this rank, among the whole model's
  Tensor dense_heads_H;           // u8, of this rank; undefined when none is dense
  double skipped_share = 0.0;     // of a sequence's groups, at its beginning: not compared
};

// Compares the scores with the dense map on sampled groups. In training, where `config` distills,
// adds distill_weight times the mean divergence over the compared rows of the whole step, on any
// layout and in any number of micro-steps, to the objective. Where statistics are asked for, writes
// the layer's; where a disagreement is looked for, compares the choice across the tensor axis.
void compare_with_dense(Tape& tape, const AttentionInput& input, const Variable& z_BHNM,
                        const BlockGrid& grid, const AttentionPattern& pattern,
                        const SparsityConfig& config, const GateComparison& comparison);

}  // namespace filigree
