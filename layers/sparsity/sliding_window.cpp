// The last tokens and the first: every query reads `window` tokens up to itself and the `sinks`
// tokens that its document begins with (Xiao et al. 2023, "StreamingLLM", arXiv 2309.17453).
#include "layers/functional/functional.hpp"
#include "layers/sparsity/observe.hpp"
#include "layers/sparsity/registry.hpp"

namespace filigree {
namespace {

class SlidingWindowMechanism final : public AttentionMechanism {
 public:
  explicit SlidingWindowMechanism(const MechanismContext& context)
      : layer_(context.layer), config_(context.config.sparsity) {}
  std::string_view name() const override { return "sliding_window"; }
  MechanismTraits traits() const override { return {}; }

  Variable attend(Tape& tape, const AttentionInput& input) const override {
    AttentionPattern pattern = pattern_within_documents(input);
    pattern.window = config_.window;
    pattern.sinks = config_.sinks;
    if (input.batch.statistics) observe(tape.execution(), input, pattern, config_, layer_);
    return attention(tape, input.q_THK, input.k_TGK, input.v_TGK, input.shape, pattern);
  }

 private:
  std::int64_t layer_;
  SparsityConfig config_;
};

}  // namespace

std::unique_ptr<AttentionMechanism> make_sliding_window_mechanism(const MechanismContext& context) {
  return std::make_unique<SlidingWindowMechanism>(context);
}

}  // namespace filigree
