// The contestants of the quality benchmark, each set up to read about the same share of the pairs.
#pragma once

#include <cstdint>
#include <string>

#include "layers/model_config.hpp"

namespace filigree {

struct QualityVariant {
  std::string name;       // as written: "adaptive:distill"
  std::string mechanism;  // "adaptive"
  std::string learn;      // "distill"; what sparsity.learn becomes, of adaptive only
};

// "dense", "sliding_window", "deepspeed_fixed", "adaptive" or "adaptive:LEARN". Throws UserError
// for anything else.
QualityVariant parse_quality_variant(const std::string& text);

// The variant with its pattern chosen so that all heads together read as nearly `density` of the
// causal pairs of model.sequence as the pattern allows: the window beside model.sparsity.sinks
// sinks, the local blocks of deepspeed_fixed, the budget of adaptive, which gets no dense heads and
// no window of its own here. `model` is resolved and otherwise kept. Throws UserError when the
// settings do not fit.
ModelConfig matched_model(const ModelConfig& model, const QualityVariant& variant, double density);

// Share of the causal pairs of `sequence` tokens that a window of `window` tokens up to the query,
// together with the first `sinks` tokens, leaves.
double window_density(std::int64_t sequence, std::int64_t window, std::int64_t sinks);
// The same of deepspeed_fixed with the settings of model.sparsity, over all heads.
double fixed_density(const ModelConfig& model);

}  // namespace filigree
