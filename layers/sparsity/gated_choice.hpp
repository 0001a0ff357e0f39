// What mechanisms with a learned gate have in common: the comparison of its scores with dense
// attention, which teaches the gate and shows how good its choice is.
#pragma once

#include "layers/functional/gate.hpp"
#include "layers/sparsity/block_choice.hpp"
#include "layers/sparsity/mechanism.hpp"

namespace filigree {

// What the comparison knows of its layer.
struct GateComparison {
  const Mesh* mesh = nullptr;
  std::int64_t layer = 0;
  std::int64_t sparse_heads = 0;  // of the whole model's layer
  std::int64_t first_head = 0;    // of this rank, among the whole model's
  double skipped_share = 0.0;     // of a sequence's groups, at its beginning: not compared
};

// Compares the scores z with the dense map on sampled groups; pattern.lists are what `inputs` made
// of them. In training, where `config` distills, adds distill_weight times the mean divergence over
// the compared rows of the whole step, on any layout and in any number of micro-steps, to the
// objective. Where statistics are asked for, writes the layer's; where a disagreement is looked
// for, compares the choice across the tensor axis.
void compare_with_dense(Tape& tape, const AttentionInput& input, const Variable& z_BHNM,
                        const BlockGrid& grid, const ChoiceInputs& inputs,
                        const AttentionPattern& pattern, const SparsityConfig& config,
                        const GateComparison& comparison);

}  // namespace filigree
