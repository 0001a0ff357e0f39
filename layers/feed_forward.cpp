#include "layers/feed_forward.hpp"

#include <cmath>

namespace filigree {

FeedForward::FeedForward(const std::string& name, const ModelConfig& config, const Mesh& mesh,
                         ParameterStore& store)
    : gate_(name + ".gate", config.feed_forward, config.width, config.initial_deviation, mesh,
            store),
      up_(name + ".up", config.feed_forward, config.width, config.initial_deviation, mesh, store),
      down_(name + ".down", config.width, config.feed_forward,
            config.initial_deviation / std::sqrt(2.0 * static_cast<double>(config.layers)), mesh,
            store) {}

Variable FeedForward::forward(Tape& tape, const Variable& x) const {
  return down_.forward(tape, swiglu(tape, gate_.forward(tape, x), up_.forward(tape, x)));
}

}  // namespace filigree
