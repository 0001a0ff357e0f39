#include "runtime/training/quality_variants.hpp"

#include <algorithm>
#include <cmath>

#include "layers/sparsity/block_layout.hpp"
#include "runtime/core/error.hpp"

namespace filigree {
namespace {

double all_pairs(std::int64_t sequence) {
  return static_cast<double>(sequence) * static_cast<double>(sequence + 1) / 2.0;
}

// The value of [1, most] whose density, which `density_of` says, is nearest to `density`; the
// smallest of equals.
template <class DensityOf>
std::int64_t nearest(std::int64_t most, double density, const DensityOf& density_of) {
  std::int64_t best = 1;
  double best_distance = std::abs(density_of(1) - density);
  for (std::int64_t value = 2; value <= most; ++value) {
    const double distance = std::abs(density_of(value) - density);
    if (distance < best_distance) {
      best = value;
      best_distance = distance;
    }
  }
  return best;
}

}  // namespace

QualityVariant parse_quality_variant(const std::string& text) {
  const auto colon = text.find(':');
  QualityVariant variant{text, text.substr(0, colon), {}};
  const bool learns = variant.mechanism == "adaptive";
  bool known = colon == std::string::npos &&
               (learns || variant.mechanism == "dense" || variant.mechanism == "sliding_window" ||
                variant.mechanism == "deepspeed_fixed");
  if (colon == std::string::npos) {
    variant.learn = learns ? "both" : "";
  } else {
    variant.learn = text.substr(colon + 1);
    known = learns && (variant.learn == "distill" || variant.learn == "end_to_end" ||
                       variant.learn == "both" || variant.learn == "none");
  }
  if (!known)
    throw UserError(str("--variants: '", text,
                        "' is no variant; allowed: dense, sliding_window, deepspeed_fixed, "
                        "adaptive:distill, adaptive:end_to_end, adaptive:both, adaptive:none"));
  return variant;
}

double window_density(std::int64_t sequence, std::int64_t window, std::int64_t sinks) {
  double pairs = 0.0;
  for (std::int64_t i = 0; i < sequence; ++i) {
    const std::int64_t first = std::max<std::int64_t>(0, i + 1 - window);
    pairs += static_cast<double>(i + 1 - first + std::min(first, sinks));
  }
  return pairs / all_pairs(sequence);
}

double fixed_density(const ModelConfig& model) {
  const SparsityConfig& sparsity = model.sparsity;
  const std::int64_t block = sparsity.key_block, blocks = (model.sequence + block - 1) / block;
  const BlockLayout layout = fixed_layout({.local = sparsity.local_blocks,
                                           .global = sparsity.global_blocks,
                                           .patterns = sparsity.head_patterns},
                                          {.heads = model.heads, .blocks = blocks});
  const auto tokens = [&](std::int64_t n) {
    return static_cast<double>(std::min(block, model.sequence - n * block));
  };
  double pairs = 0.0;
  for (std::int64_t head = 0; head < model.heads; ++head)
    for (std::int64_t n = 0; n < blocks; ++n)
      for (std::int64_t m = 0; m <= n; ++m) {
        if (!layout.at(head, n, m)) continue;
        pairs += m == n ? tokens(n) * (tokens(n) + 1.0) / 2.0 : tokens(n) * tokens(m);
      }
  return pairs / (static_cast<double>(model.heads) * all_pairs(model.sequence));
}

ModelConfig matched_model(const ModelConfig& model, const QualityVariant& variant, double density) {
  ModelConfig result = model;
  result.mechanism = variant.mechanism;
  SparsityConfig& sparsity = result.sparsity;
  sparsity.density = density;
  sparsity.selection = "density";
  sparsity.dense_heads = 0.0;
  sparsity.head_gate = sparsity.head_gate && variant.mechanism == "adaptive";
  sparsity.learn = variant.learn.empty() ? "none" : variant.learn;
  if (variant.mechanism == "sliding_window") {
    sparsity.window = nearest(model.sequence, density, [&](std::int64_t window) {
      return window_density(model.sequence, window, sparsity.sinks);
    });
  } else {
    sparsity.window = sparsity.sinks = 0;
  }
  if (variant.mechanism == "deepspeed_fixed") {
    // A window cannot hold fewer blocks than are global in it.
    const std::int64_t least = sparsity.global_blocks * sparsity.head_patterns;
    const std::int64_t blocks = (model.sequence + sparsity.key_block - 1) / sparsity.key_block;
    ModelConfig trial = result;
    sparsity.local_blocks =
        least - 1 +
        nearest(std::max<std::int64_t>(1, blocks - least + 1), density, [&](std::int64_t more) {
          trial.sparsity.local_blocks = least - 1 + more;
          return fixed_density(trial);
        });
  }
  return result.resolved(result.vocabulary);
}

}  // namespace filigree
