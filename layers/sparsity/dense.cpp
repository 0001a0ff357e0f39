// Every allowed key for every query: the baseline that all sparse mechanisms are compared with.
#include "layers/functional/functional.hpp"
#include "layers/sparsity/observe.hpp"
#include "layers/sparsity/registry.hpp"

namespace filigree {
namespace {

class DenseMechanism final : public AttentionMechanism {
 public:
  explicit DenseMechanism(const MechanismContext& context)
      : layer_(context.layer), config_(context.config.sparsity) {}
  std::string_view name() const override { return "dense"; }
  MechanismTraits traits() const override { return {}; }
  Variable attend(Tape& tape, const AttentionInput& input) const override {
    const AttentionPattern pattern = pattern_within_documents(input);
    if (input.batch.statistics) observe(tape.execution(), input, pattern, config_, layer_);
    return attention(tape, input.q_THK, input.k_TGK, input.v_TGK, input.shape, pattern);
  }

 private:
  std::int64_t layer_;
  SparsityConfig config_;
};

}  // namespace

std::unique_ptr<AttentionMechanism> make_dense_mechanism(const MechanismContext& context) {
  return std::make_unique<DenseMechanism>(context);
}

}  // namespace filigree
