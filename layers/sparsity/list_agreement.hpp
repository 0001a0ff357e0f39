// A check that ranks which must have come to the same choice did: of lists, across the tensor axis.
#pragma once

#include <string>

#include "layers/sparsity/block_choice.hpp"
#include "parallel/mesh.hpp"
#include "runtime/core/execution.hpp"

namespace filigree {

// What a rank chose in one layer, and from what.
struct ChoiceEvidence {
  std::int64_t layer = 0;
  Tensor x_TD;  // the layer's input, which every tensor rank must hold alike
  ChoiceInputs inputs;
  BlockLists lists;
};

// Why the choices of the tensor ranks cannot all be right, or "":
//   - the input of the layer has not the same bits on every rank;
//   - the lists of the next rank are not what this rank makes of that rank's scores with its own
//     budget (other memory, another processor): named by the first block that differs.
// Ranks exchange hashes, and what one layer chose by and chose. Collective over the tensor axis.
std::string disagreement(ExecutionContext& execution, const Mesh& mesh, const BlockGrid& grid,
                         const ChoiceEvidence& evidence);

}  // namespace filigree
