#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <vector>

#include "kernels/elementwise/floating.hpp"
#include "kernels/sampling/sample_token.hpp"
#include "kernels/sampling/weights.hpp"

namespace filigree {
namespace {

using sampling::Mass;

template <class T>
std::int32_t sample(std::span<const T> logits, const SamplingOptions& options, double uniform) {
  const auto largest = std::max_element(logits.begin(), logits.end());
  const bool has_nan = std::any_of(logits.begin(), logits.end(), [](T x) { return std::isnan(x); });
  if (has_nan || !std::isfinite(*largest)) return -1;
  if (options.greedy) return static_cast<std::int32_t>(largest - logits.begin());

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

  std::vector<Mass> weights;
  for (const std::int32_t id : order)
    weights.push_back(sampling::weight(static_cast<double>(logit(id)),
                                       static_cast<double>(*largest), options.temperature));
  const Mass least =
      sampling::nucleus(options.top_p, std::accumulate(weights.begin(), weights.end(), Mass{0}));
  Mass mass = 0;
  for (auto next = weights.begin(); mass < least; ++next) mass += *next;
  Mass remaining = sampling::drawn(uniform, mass);
  std::size_t chosen = 0;
  while (remaining >= weights[chosen]) remaining -= weights[chosen++];
  return order[chosen];
}

}  // namespace

void SampleToken::reference(const Arguments& a, ExecutionContext&) {
  const auto pick = [&](auto type) {
    using T = decltype(type);
    a.token.data<std::int32_t>()[0] =
        sample<T>(a.logits_V.span<T>(), a.options, SampleToken::uniform(a));
  };
  a.logits_V.dtype() == DType::f64 ? pick(double{}) : pick(float{});
}

}  // namespace filigree
