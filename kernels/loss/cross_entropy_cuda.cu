#include <limits>

#include "kernels/cuda/device.hpp"
#include "kernels/cuda/launch.hpp"
#include "kernels/elementwise/floating.hpp"
#include "kernels/loss/cross_entropy.hpp"

namespace filigree {
namespace {

constexpr int kThreads = 256;
constexpr float kNothing = -std::numeric_limits<float>::infinity();

// max and sum of exp(x - max) of some of a row's values. A NaN is left to the sum.
struct Running {
  float max = kNothing, sum = 0.0f;

  __device__ __forceinline__ void raise(float to) {
    if (!(to > max)) return;
    sum *= expf(max - to);
    max = to;
  }
  template <int kCount>
  __device__ __forceinline__ void add(const float (&x)[kCount]) {
    float largest = x[0];
#pragma unroll
    for (int i = 1; i < kCount; ++i) largest = fmaxf(largest, x[i]);
    raise(largest);
    // -infinity so far: each value is a term of 0, not exp(-infinity + infinity).
    const float shift = max == kNothing ? 0.0f : max;
#pragma unroll
    for (int i = 0; i < kCount; ++i) sum += expf(x[i] - shift);
  }
};

// A block for each row, read once. Elements before the first and behind the last whole pack of
// 16 bytes are taken one by one, since rows may have any length.
template <class T, class Single, class Wide>
__device__ __forceinline__ void for_each_of_row(T* row, std::int64_t columns, Single&& single,
                                                Wide&& wide) {
  constexpr int kWidth = kWidest<T>;
  const auto misplaced = reinterpret_cast<std::uintptr_t>(row) % 16 / sizeof(T);
  std::int64_t head = misplaced == 0 ? 0 : kWidth - static_cast<std::int64_t>(misplaced);
  if (head > columns) head = columns;
  const std::int64_t packs = (columns - head) / kWidth, tail = head + packs * kWidth;
  if (threadIdx.x < head) single(static_cast<std::int64_t>(threadIdx.x));
  for (std::int64_t k = threadIdx.x; k < packs; k += kThreads) wide(head + k * kWidth);
  if (tail + threadIdx.x < columns) single(tail + threadIdx.x);
}

// Each thread's max and sum, then those of the block, in one order.
template <class T>
__global__ void __launch_bounds__(kThreads)
    statistics_kernel(const T* logits, const std::int32_t* targets, float* max, float* sum,
                      float* target, std::int64_t columns, std::int64_t first_column) {
  __shared__ float scratch[kWarp];
  const T* const row = logits + blockIdx.x * columns;
  Running mine;
  for_each_of_row(
      row, columns,
      [&](std::int64_t v) {
        const float x[1] = {to_float(row[v])};
        mine.add(x);
      },
      [&](std::int64_t v) {
        const auto pack = *reinterpret_cast<const Pack<T, kWidest<T>>*>(row + v);
        float x[kWidest<T>];
#pragma unroll
        for (int e = 0; e < kWidest<T>; ++e) x[e] = to_float(pack.values[e]);
        mine.add(x);
      });
  const float largest = block_max(mine.max, scratch);
  const float total = block_sum(columns == 0 ? 0.0f : mine.sum * expf(mine.max - largest), scratch);
  if (threadIdx.x != 0) return;
  const std::int64_t id = targets[blockIdx.x], column = id - first_column;
  max[blockIdx.x] = largest;
  sum[blockIdx.x] = total;
  target[blockIdx.x] = id >= 0 && column >= 0 && column < columns ? to_float(row[column]) : 0.0f;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    gradient_kernel(T* logits, const std::int32_t* targets, const float* lse, const float* scale,
                    std::int64_t columns, std::int64_t first_column) {
  T* const row = logits + blockIdx.x * columns;
  const std::int64_t id = targets[blockIdx.x], target = id - first_column;
  const float shift = lse[blockIdx.x], factor = scale[blockIdx.x];
  const auto gradient = [&](T x, std::int64_t v) {
    const float probability = expf(to_float(x) - shift);
    return from_float<T>(id < 0 ? 0.0f : factor * (probability - (v == target ? 1.0f : 0.0f)));
  };
  for_each_of_row(
      row, columns, [&](std::int64_t v) { row[v] = gradient(row[v], v); },
      [&](std::int64_t v) {
        auto& place = *reinterpret_cast<Pack<T, kWidest<T>>*>(row + v);
        auto pack = place;
#pragma unroll
        for (int e = 0; e < kWidest<T>; ++e) pack.values[e] = gradient(pack.values[e], v + e);
        place = pack;
      });
}

}  // namespace

void CrossEntropyStatistics::cuda(const Arguments& a, ExecutionContext& context) {
  visit_device(a.logits_TV.dtype(), [&](auto type) {
    using T = decltype(type);
    launch(context, {static_cast<unsigned>(rows_of(a.logits_TV)), kThreads}, statistics_kernel<T>,
           device_data<T>(a.logits_TV), device_data<std::int32_t>(a.targets_T),
           device_data<float>(a.max_T), device_data<float>(a.sum_T), device_data<float>(a.target_T),
           columns_of(a.logits_TV), a.first_column);
  });
}

void CrossEntropyGradient::cuda(const Arguments& a, ExecutionContext& context) {
  visit_device(a.logits_TV.dtype(), [&](auto type) {
    using T = decltype(type);
    launch(context, {static_cast<unsigned>(rows_of(a.logits_TV)), kThreads}, gradient_kernel<T>,
           device_data<T>(a.logits_TV), device_data<std::int32_t>(a.targets_T),
           device_data<float>(a.lse_T), device_data<float>(a.scale_T), columns_of(a.logits_TV),
           a.first_column);
  });
}

}  // namespace filigree
