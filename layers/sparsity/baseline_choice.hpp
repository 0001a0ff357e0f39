// What choices that learn nothing would have caught with the same number of blocks: what a gate's
// recall is to be held against.
#pragma once

#include "layers/functional/gate.hpp"
#include "layers/sparsity/mechanism.hpp"

namespace filigree {

// For every head and group the forced blocks and the candidates of highest score, as many together
// as `like` has there; none where it has none. Of equal scores the lower index. No transpose.
BlockLists choose_as_many(ExecutionContext& execution, const Tensor& scores_BHNM,
                          const BlockGrid& grid, const BlockLists& like);

// Both read the forced blocks and, for every head and group, as many blocks as `lists` does.
struct BaselineChoices {
  BlockLists random;  // candidates drawn evenly, the same on any layout
  // Candidates of largest <q, mean of the block's keys>, q and keys after position embedding (MoBA,
  // Lu et al. 2025, arXiv 2502.13189, section 2.1). q: the group's first token, which is all that a
  // strictly causal choice may ask; in a block-causal grid the mean over the group.
  BlockLists mean_pooled;
};

// layer, first_head: of the whole model, for the random numbers. What this costs is no part of the
// step's work and is left out of execution.work.
BaselineChoices baseline_choices(ExecutionContext& execution, const AttentionInput& input,
                                 const BlockGrid& grid, const BlockLists& lists, std::int64_t layer,
                                 std::int64_t first_head);

}  // namespace filigree
