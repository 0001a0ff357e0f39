// How many key blocks every group may read, and by which rule, at a moment of training.
#pragma once

#include <vector>

#include "kernels/attention/block_selection.hpp"
#include "layers/batch_info.hpp"
#include "layers/sparsity/sparsity_config.hpp"

namespace filigree {

// A group's budget depends on its place in a sequence only, never on how long that sequence is:
// budgets are laid out once for a sequence of the training length and cut to what is there, so that
// a prefix, its continuation and decoding choose the same blocks. Positions beyond the training
// length get the budget of its last group. A sequence shorter than that one thus reads a larger
// share of its pairs than the density says.
class BlockBudget {
 public:
  // block_causal: as in BlockGrid.
  BlockBudget(const SparsityConfig& config, std::int64_t sequence, bool block_causal = false);

  struct Choice {
    SelectionRule rule = SelectionRule::top_k;
    double threshold = 0.0;
    double head_threshold = 0.0;  // of the head gate, rising with the ramp; 0 without one
    Tensor budgets_N;             // i32, in the context's memory
    std::int64_t capacity = 0;    // J that holds every list
  };
  // `grid` may continue a sequence (query_offset).
  Choice choice(const ExecutionContext& execution, const BlockGrid& grid, bool has_dense_heads,
                const BatchInfo& batch) const;

 private:
  Choice choice_at(double progress, const BlockGrid& grid, bool has_dense_heads) const;
  BlockGrid reference_grid() const;
  std::vector<std::int32_t> reference_budgets(double progress) const;

  SparsityConfig config_;
  std::int64_t sequence_;
  bool block_causal_;
  std::vector<std::int32_t> target_;
};

// At a step of training, from 0, everything is read, at the end of the warm-up to 1, the target, at
// the end of the ramp.
double ramp_progress(const SparsityConfig& config, std::int64_t step);

}  // namespace filigree
