#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/elementwise/floating.hpp"
#include "kernels/loss/cross_entropy.hpp"

namespace filigree {
namespace {

template <class T>
void statistics(const CrossEntropyStatistics::Arguments& a) {
  using A = Accumulator<T>;
  const std::int64_t T_ = rows_of(a.logits_TV), V = columns_of(a.logits_TV);
  const auto* ids = a.targets_T.data<std::int32_t>();
  A *max = a.max_T.data<A>(), *sum = a.sum_T.data<A>(), *target = a.target_T.data<A>();
  for (std::int64_t t = 0; t < T_; ++t) {
    const T* x = a.logits_TV.data<T>() + t * V;
    max[t] = -std::numeric_limits<A>::infinity();
    for (std::int64_t v = 0; v < V; ++v) max[t] = std::max(max[t], widened(x[v]));
    sum[t] = 0;
    for (std::int64_t v = 0; v < V; ++v) sum[t] += std::exp(widened(x[v]) - max[t]);
    const std::int64_t column = ids[t] - a.first_column;
    target[t] = ids[t] >= 0 && column >= 0 && column < V ? widened(x[column]) : A{0};
  }
}

template <class T>
void gradient(const CrossEntropyGradient::Arguments& a) {
  using A = Accumulator<T>;
  const std::int64_t T_ = rows_of(a.logits_TV), V = columns_of(a.logits_TV);
  const auto* ids = a.targets_T.data<std::int32_t>();
  const A *lse = a.lse_T.data<A>(), *scale = a.scale_T.data<A>();
  for (std::int64_t t = 0; t < T_; ++t) {
    T* x = a.logits_TV.data<T>() + t * V;
    const std::int64_t column = ids[t] - a.first_column;
    for (std::int64_t v = 0; v < V; ++v) {
      const A probability = std::exp(widened(x[v]) - lse[t]);
      x[v] = ids[t] < 0 ? T{} : T(scale[t] * (probability - (v == column ? A{1} : A{0})));
    }
  }
}

}  // namespace

void CrossEntropyStatistics::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.logits_TV.dtype(), [&](auto type) { statistics<decltype(type)>(a); });
}

void CrossEntropyGradient::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.logits_TV.dtype(), [&](auto type) { gradient<decltype(type)>(a); });
}

}  // namespace filigree
