#include <algorithm>
#include <array>
#include <limits>

#include "kernels/elementwise/floating.hpp"
#include "kernels/elementwise/vector_math.hpp"
#include "kernels/loss/cross_entropy.hpp"

namespace filigree {
namespace {

// The largest of x, -infinity of none. A NaN is left to the sum. In lanes, since a running maximum
// is one long chain, and compilers may not reorder it on their own.
template <class T>
Accumulator<T> largest(const T* x, std::int64_t count) {
  using A = Accumulator<T>;
  constexpr std::int64_t kLanes = 64;
  std::array<A, kLanes> lanes;
  lanes.fill(-std::numeric_limits<A>::infinity());
  A* lane = lanes.data();
  for (std::int64_t begin = 0; begin < count; begin += kLanes) {
    const T* from = x + begin;
    const auto step = [=](std::int64_t i) {
      const A value = widened(from[i]);
      lane[i] = value > lane[i] ? value : lane[i];
    };
    if (count - begin >= kLanes)
      vector_loop(0, kLanes, step);  // a constant length, unrolled
    else
      vector_loop(0, count - begin, step);
  }
  return *std::max_element(lanes.begin(), lanes.end());
}

// sum_v exp(x[v] - shift), in blocks: the exponentials of one stay in registers and the first-level
// cache, and short sums of sums lose less than one long sum.
template <class T, class A>
A sum_of_exponentials(const T* x, std::int64_t count, A shift) {
  constexpr std::int64_t kBlock = 256;
  std::array<A, kBlock> terms;
  A total = 0;
  for (std::int64_t begin = 0; begin < count; begin += kBlock) {
    const std::int64_t size = std::min(kBlock, count - begin);
    A* term = terms.data();
    const T* from = x + begin;
    exp_loop<A>(0, size, [=](std::int64_t i) { term[i] = vector_exp(widened(from[i]) - shift); });
    A sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t i = 0; i < size; ++i) sum += term[i];
    total += sum;
  }
  return total;
}

template <class T>
void statistics(const CrossEntropyStatistics::Arguments& a, const ExecutionContext& context) {
  using A = Accumulator<T>;
  const std::int64_t V = columns_of(a.logits_TV);
  const T* logits = a.logits_TV.data<T>();
  const auto* ids = a.targets_T.data<std::int32_t>();
  A *max = a.max_T.data<A>(), *sum = a.sum_T.data<A>(), *target = a.target_T.data<A>();
  const auto rows = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      const T* x = logits + t * V;
      max[t] = largest(x, V);
      sum[t] = sum_of_exponentials(x, V, max[t]);
      const std::int64_t column = ids[t] - a.first_column;
      target[t] = ids[t] >= 0 && column >= 0 && column < V ? widened(x[column]) : A{0};
    }
  };
  for_each_chunk(context, rows_of(a.logits_TV), rows_per_chunk(V), V, rows);
}

template <class T>
void gradient(const CrossEntropyGradient::Arguments& a, const ExecutionContext& context) {
  using A = Accumulator<T>;
  const std::int64_t V = columns_of(a.logits_TV);
  const auto* ids = a.targets_T.data<std::int32_t>();
  T* logits = a.logits_TV.data<T>();
  const auto rows = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      T* x = logits + t * V;
      if (ids[t] < 0) {
        std::fill_n(x, V, T{});
        continue;
      }
      const A lse = a.lse_T.data<A>()[t], scale = a.scale_T.data<A>()[t];
      const std::int64_t column = ids[t] - a.first_column;
      const bool is_here = column >= 0 && column < V;
      const A target = is_here ? widened(x[column]) : A{0};
      exp_loop<A>(0, V, [=](std::int64_t v) { x[v] = T(scale * vector_exp(widened(x[v]) - lse)); });
      if (is_here) x[column] = T(scale * (vector_exp(target - lse) - 1));
    }
  };
  for_each_chunk(context, rows_of(a.logits_TV), rows_per_chunk(V), V, rows);
}

}  // namespace

void CrossEntropyStatistics::cpu(const Arguments& a, ExecutionContext& context) {
  visit_floating(a.logits_TV.dtype(), [&](auto type) { statistics<decltype(type)>(a, context); });
}

void CrossEntropyGradient::cpu(const Arguments& a, ExecutionContext& context) {
  visit_floating(a.logits_TV.dtype(), [&](auto type) { gradient<decltype(type)>(a, context); });
}

}  // namespace filigree
