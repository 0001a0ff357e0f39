// DeepSpeed's "variable" layout: windows of blocks, and the first blocks for all rows.
#include "layers/sparsity/layout_mechanism.hpp"
#include "layers/sparsity/registry.hpp"

namespace filigree {
namespace {

BlockLayout layout(const SparsityConfig& c, const LayoutShape& shape) {
  return variable_layout(
      {.windows = {local_blocks_or(c, 4)}, .global = first_blocks(c.global_blocks)}, shape);
}

}  // namespace

std::unique_ptr<AttentionMechanism> make_deepspeed_variable_mechanism(
    const MechanismContext& context) {
  return make_layout_mechanism("deepspeed_variable", layout, context);
}

}  // namespace filigree
