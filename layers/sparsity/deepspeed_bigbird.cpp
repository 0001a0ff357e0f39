// DeepSpeed's "bigbird" layout (Zaheer et al. 2020, arXiv 2007.14062): a window, the first blocks
// and random ones.
#include "layers/sparsity/layout_mechanism.hpp"
#include "layers/sparsity/registry.hpp"

namespace filigree {
namespace {

BlockLayout layout(const SparsityConfig& c, const LayoutShape& shape) {
  return bigbird_layout(
      {.sliding = local_blocks_or(c, 3), .global = c.global_blocks, .random = c.random_blocks},
      shape);
}

}  // namespace

std::unique_ptr<AttentionMechanism> make_deepspeed_bigbird_mechanism(
    const MechanismContext& context) {
  return make_layout_mechanism("deepspeed_bigbird", layout, context);
}

}  // namespace filigree
