// DeepSpeed's "fixed" layout (Child et al. 2019, "Sparse Transformers", arXiv 1904.10509): windows
// of blocks, and the last blocks of every window for all later rows.
#include "layers/sparsity/layout_mechanism.hpp"
#include "layers/sparsity/registry.hpp"

namespace filigree {
namespace {

BlockLayout layout(const SparsityConfig& c, const LayoutShape& shape) {
  return fixed_layout(
      {.local = local_blocks_or(c, 4), .global = c.global_blocks, .patterns = c.head_patterns},
      shape);
}

}  // namespace

std::unique_ptr<AttentionMechanism> make_deepspeed_fixed_mechanism(
    const MechanismContext& context) {
  return make_layout_mechanism("deepspeed_fixed", layout, context);
}

}  // namespace filigree
