// Every allowed key for every query: the baseline that all sparse mechanisms are compared with.
#include "layers/functional/functional.hpp"
#include "layers/sparsity/registry.hpp"

namespace filigree {
namespace {

class DenseMechanism final : public AttentionMechanism {
 public:
  std::string_view name() const override { return "dense"; }
  MechanismTraits traits() const override { return {}; }
  Variable attend(Tape& tape, const AttentionInput& input) const override {
    return dense_attention(tape, input.q_THK, input.k_TGK, input.v_TGK, input.shape);
  }
};

}  // namespace

std::unique_ptr<AttentionMechanism> make_dense_mechanism() {
  return std::make_unique<DenseMechanism>();
}

}  // namespace filigree
