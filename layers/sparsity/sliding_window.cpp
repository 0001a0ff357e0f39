// The last tokens and the first: every query reads `window` tokens up to itself and the `sinks`
// tokens that its document begins with (Xiao et al. 2023, "StreamingLLM", arXiv 2309.17453).
#include "layers/sparsity/layout_mechanism.hpp"
#include "layers/sparsity/registry.hpp"

namespace filigree {

std::unique_ptr<AttentionMechanism> make_sliding_window_mechanism(const MechanismContext& context) {
  const SparsityConfig& sparsity = context.config.sparsity;
  return make_window_mechanism("sliding_window", sparsity.window, sparsity.sinks, context);
}

}  // namespace filigree
