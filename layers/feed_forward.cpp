#include "layers/feed_forward.hpp"

namespace filigree {
namespace {

LinearOptions options(const ModelConfig& config) {
  return {.deviation = config.initial_deviation,
          .reparametrised = config.reparametrises_feed_forward()};
}

}  // namespace

FeedForward::FeedForward(const std::string& name, const ModelConfig& config, const Mesh& mesh,
                         ParameterStore& store)
    : gate_(name + ".gate", config.feed_forward, config.width, options(config), mesh, store),
      up_(name + ".up", config.feed_forward, config.width, options(config), mesh, store),
      down_(name + ".down", config.width, config.feed_forward,
            output_options(config, config.reparametrises_feed_forward()), mesh, store) {}

void FeedForward::weights_changed(WeightChange change, ExecutionContext& execution) {
  gate_.weights_changed(change, execution);
  up_.weights_changed(change, execution);
  down_.weights_changed(change, execution);
}

Variable FeedForward::forward(Tape& tape, const Variable& x) const {
  return down_.forward(tape, swiglu(tape, gate_.forward(tape, x), up_.forward(tape, x)));
}

}  // namespace filigree
