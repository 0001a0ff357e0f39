#include "runtime/training/sampling.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "runtime/core/error.hpp"
#include "runtime/core/random.hpp"

namespace filigree {

void check_sampling(const SamplingOptions& options) {
  if (!(options.temperature > 0.0) || !std::isfinite(options.temperature))
    throw UserError(str("temperature is ", options.temperature,
                        "; it must be above 0 (--greedy takes the most "
                        "probable token)"));
  if (options.top_k < 0)
    throw UserError(str("top-k is ", options.top_k, "; it must be 0 (all) or more"));
  if (!(options.top_p > 0.0 && options.top_p <= 1.0))
    throw UserError(str("top-p is ", options.top_p, "; allowed: above 0 to 1"));
}

std::int32_t sample_token(std::span<const float> logits, const SamplingOptions& options,
                          std::int64_t position) {
  FILIGREE_CHECK(!logits.empty(), "no logits");
  if (options.greedy)
    return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) -
                                     logits.begin());

  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto logit = [&](std::int32_t id) { return logits[static_cast<std::size_t>(id)]; };
  const std::size_t keep = options.top_k == 0
                               ? order.size()
                               : std::min(order.size(), static_cast<std::size_t>(options.top_k));
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(keep), order.end(),
                    [&](std::int32_t a, std::int32_t b) {
                      return logit(a) != logit(b) ? logit(a) > logit(b) : a < b;
                    });
  order.resize(keep);

  const double largest = logit(order.front());
  std::vector<double> weights;
  for (const std::int32_t id : order)
    weights.push_back(std::exp((static_cast<double>(logit(id)) - largest) / options.temperature));
  const double all = std::accumulate(weights.begin(), weights.end(), 0.0);
  FILIGREE_CHECK(std::isfinite(all), "logits are not finite");

  // Cut to the nucleus (Holtzman et al. 2020), then draw from what is left.
  std::size_t nucleus = 0;
  double mass = 0.0;
  while (nucleus < weights.size() && (nucleus == 0 || mass < options.top_p * all))
    mass += weights[nucleus++];
  const Philox random(options.seed, RandomPurpose::sampling, 0);
  double remaining = random.uniform(static_cast<std::uint64_t>(position)) * mass;
  for (std::size_t i = 0; i + 1 < nucleus; ++i) {
    if (remaining < weights[i]) return order[i];
    remaining -= weights[i];
  }
  return order[nucleus - 1];
}

}  // namespace filigree
