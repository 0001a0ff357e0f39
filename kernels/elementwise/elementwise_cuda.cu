#include "kernels/cuda/map.hpp"
#include "kernels/cuda/sums.hpp"
#include "kernels/elementwise/elementwise.hpp"

namespace filigree {
namespace {

struct AddTwo {
  __device__ void operator()(std::int64_t, const float (&x)[2], float (&y)[1]) const {
    y[0] = x[0] + x[1];
  }
};

// Four elements a thread, one access each: the dtypes of the two sides may differ.
template <class From, class To, bool kAccumulate>
__global__ void __launch_bounds__(256)
    scale_kernel(const From* x, To* y, std::int64_t count, float factor) {
  constexpr int kWidth = 4;
  const std::int64_t first =
      (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kWidth;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    if (first + i >= count) return;
    const float scaled = factor * to_float(x[first + i]);
    y[first + i] = from_float<To>(kAccumulate ? scaled + to_float(y[first + i]) : scaled);
  }
}

struct Product {
  template <class T>
  __device__ double operator()(const T* a, const T* b, std::int64_t i) const {
    return static_cast<double>(to_float(a[i])) * static_cast<double>(to_float(b[i]));
  }
};

}  // namespace

void Add::cuda(const Arguments& a, ExecutionContext& context) {
  map_elements(context, {a.a, a.b}, {a.y}, AddTwo{});
}

void Scale::cuda(const Arguments& a, ExecutionContext& context) {
  constexpr int kThreads = 256, kWidth = 4;
  visit_device(a.x.dtype(), [&](auto from) {
    visit_device(a.y.dtype(), [&](auto to) {
      using From = decltype(from);
      using To = decltype(to);
      const auto kernel =
          a.accumulate ? scale_kernel<From, To, true> : scale_kernel<From, To, false>;
      launch(context, {blocks_for(a.y.numel(), kThreads * kWidth), kThreads}, kernel,
             device_data<From>(a.x), device_data<To>(a.y), a.y.numel(),
             static_cast<float>(a.factor));
    });
  });
}

void Dot::cuda(const Arguments& a, ExecutionContext& context) {
  visit_device(a.a.dtype(), [&](auto type) {
    using T = decltype(type);
    sum_elements(context, device_data<T>(a.a), device_data<T>(a.b), a.a.numel(), a.sum, false,
                 Product{});
  });
}

}  // namespace filigree
