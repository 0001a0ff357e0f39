// DeepSpeed's "longformer" layout (Beltagy et al. 2020, arXiv 2004.05150): a window and the first
// blocks.
#include "layers/sparsity/layout_mechanism.hpp"
#include "layers/sparsity/registry.hpp"

namespace filigree {
namespace {

BlockLayout layout(const SparsityConfig& c, const LayoutShape& shape) {
  return longformer_layout(
      {.sliding = local_blocks_or(c, 3), .global = first_blocks(c.global_blocks)}, shape);
}

}  // namespace

std::unique_ptr<AttentionMechanism> make_deepspeed_longformer_mechanism(
    const MechanismContext& context) {
  return make_layout_mechanism("deepspeed_longformer", layout, context);
}

}  // namespace filigree
