// DeepSpeed's local sliding window, in whole blocks.
#include "layers/sparsity/layout_mechanism.hpp"
#include "layers/sparsity/registry.hpp"

namespace filigree {
namespace {

BlockLayout layout(const SparsityConfig& c, const LayoutShape& shape) {
  return sliding_layout(local_blocks_or(c, 3), shape);
}

}  // namespace

std::unique_ptr<AttentionMechanism> make_deepspeed_sliding_mechanism(
    const MechanismContext& context) {
  return make_layout_mechanism("deepspeed_sliding", layout, context);
}

}  // namespace filigree
