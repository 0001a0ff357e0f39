// Every allowed key for every query: the baseline that all sparse mechanisms are compared with.
#include "layers/sparsity/layout_mechanism.hpp"
#include "layers/sparsity/registry.hpp"

namespace filigree {

std::unique_ptr<AttentionMechanism> make_dense_mechanism(const MechanismContext& context) {
  return make_window_mechanism("dense", 0, 0, context);
}

}  // namespace filigree
