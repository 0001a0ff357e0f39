// From a gate's scores to the lists of the blocks that are read.
#pragma once

#include "layers/sparsity/block_budget.hpp"

namespace filigree {

// What a rank chooses by.
struct ChoiceInputs {
  Tensor scores_BHNM;          // of the gate
  BlockBudget::Choice budget;  // the same on every rank
  Tensor dense_heads_H;        // u8; undefined when none is dense
  Tensor head_scores_NH;       // of a head gate, whose groups below budget.head_threshold list
                               // nothing; or undefined
};

// The lists, with their transpose, of the blocks that the budget takes.
BlockLists choose_blocks(ExecutionContext& execution, const BlockGrid& grid,
                         const ChoiceInputs& inputs);

}  // namespace filigree
