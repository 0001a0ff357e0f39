// S2-Attention (Lin et al. 2024, arXiv 2407.17678): a window, and a stride that heads shift so that
// together they read everything.
#include "layers/sparsity/layout_mechanism.hpp"
#include "layers/sparsity/registry.hpp"

namespace filigree {
namespace {

BlockLayout layout(const SparsityConfig& c, const LayoutShape& shape) {
  return strided_layout({.local = local_blocks_or(c, 4), .stride = c.stride_blocks}, shape);
}

}  // namespace

std::unique_ptr<AttentionMechanism> make_s2_strided_mechanism(const MechanismContext& context) {
  return make_layout_mechanism("s2_strided", layout, context);
}

}  // namespace filigree
