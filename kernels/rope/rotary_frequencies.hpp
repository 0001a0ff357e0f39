// How fast the pairs of a head turn under rotary position embedding.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

#include "runtime/core/host_device.hpp"

namespace filigree {

// f(i) = theta^(-2i/K) radians per position for pair i of a head of K elements, and what scaling
// makes of it where a trained model was stretched to longer texts:
//   linear: f / factor (Chen et al. 2023, "Extending context window of large language models via
//           positional interpolation");
//   llama3: f / factor for pairs that turn at most low_turns times over original_length positions,
//           f for those that turn at least high_turns times, and between them a mean weighted by
//           the turns (Llama 3.1; "rope_type": "llama3" in Hugging Face transformers).
struct RotaryFrequencies {
  enum class Scaling : std::int32_t { none, linear, llama3 };

  double theta = 10000.0;
  Scaling scaling = Scaling::none;
  double factor = 1.0;
  double low_turns = 1.0, high_turns = 4.0, original_length = 8192.0;  // of llama3

  FILIGREE_HOST_DEVICE double of(std::int64_t pair, std::int64_t head_dim) const {
    const double plain =
        pow(theta, -2.0 * static_cast<double>(pair) / static_cast<double>(head_dim));
    return plain * share_kept(plain);
  }

 private:
  FILIGREE_HOST_DEVICE double share_kept(double plain) const {
    if (scaling == Scaling::none) return 1.0;
    if (scaling == Scaling::linear) return 1.0 / factor;
    const double turns = original_length * plain / (2.0 * std::numbers::pi);
    const double weight = fmin(fmax((turns - low_turns) / (high_turns - low_turns), 0.0), 1.0);
    return (1.0 - weight) / factor + weight;
  }
};

}  // namespace filigree
