#include <algorithm>
#include <cmath>

#include "kernels/cuda/map.hpp"
#include "kernels/cuda/sums.hpp"
#include "kernels/elementwise/elementwise.hpp"
#include "kernels/elementwise/floating.hpp"
#include "runtime/core/random.hpp"

namespace filigree {
namespace {

constexpr int kScaleThreads = 256;

struct AddTwo {
  __device__ void operator()(std::int64_t, const float (&x)[2], float (&y)[1]) const {
    y[0] = x[0] + x[1];
  }
};

// In f64 where either side is, else in f32.
template <class From, class To>
using Computed =
    std::conditional_t<std::is_same_v<From, double> || std::is_same_v<To, double>, double, float>;

__device__ __forceinline__ double widened_on_device(double value) { return value; }
template <class T>
__device__ __forceinline__ float widened_on_device(T value) {
  return to_float(value);
}
// To nearest, in one step.
template <class To>
__device__ __forceinline__ To stored(double value) {
  if constexpr (std::is_same_v<To, double>)
    return value;
  else if constexpr (std::is_same_v<To, float>)
    return static_cast<float>(value);
  else
    return __double2bfloat16(value);
}
template <class To>
__device__ __forceinline__ To stored(float value) {
  return from_float<To>(value);
}

// kWidth elements a thread, one access to each side: of 16 bytes on the wider one, since the dtypes
// of the two sides may differ. `by` may be null.
template <class From, class To, bool kAccumulate, int kWidth>
__global__ void __launch_bounds__(kScaleThreads)
    scale_kernel(const From* x, To* y, std::int64_t count, double number, const double* by) {
  using C = Computed<From, To>;
  const std::int64_t first =
      (static_cast<std::int64_t>(blockIdx.x) * kScaleThreads + threadIdx.x) * kWidth;
  if (first >= count) return;
  const C factor = static_cast<C>(by != nullptr ? number * *by : number);
  if (first + kWidth > count) {
    for (std::int64_t i = first; i < count; ++i) {
      const C scaled = factor * widened_on_device(x[i]);
      y[i] = stored<To>(kAccumulate ? scaled + widened_on_device(y[i]) : scaled);
    }
    return;
  }
  const auto in = *reinterpret_cast<const Pack<From, kWidth>*>(x + first);
  auto& to = *reinterpret_cast<Pack<To, kWidth>*>(y + first);
  Pack<To, kWidth> out;
  if (kAccumulate) out = to;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    const C scaled = factor * widened_on_device(in.values[i]);
    out.values[i] = stored<To>(kAccumulate ? scaled + widened_on_device(out.values[i]) : scaled);
  }
  to = out;
}

template <int kWidth, class From, class To>
void launch_scale(const Scale::Arguments& a, const ExecutionContext& context) {
  const auto kernel =
      a.accumulate ? scale_kernel<From, To, true, kWidth> : scale_kernel<From, To, false, kWidth>;
  const std::int64_t count = a.y.numel();
  launch(context, {blocks_for(count, kScaleThreads * kWidth), kScaleThreads}, kernel,
         device_data<From>(a.x), device_data<To>(a.y), count, a.factor, device_data<double>(a.by));
}

template <class From, class To>
void scale(const Scale::Arguments& a, const ExecutionContext& context) {
  constexpr int kWidth = std::min(kWidest<From>, kWidest<To>);
  const bool aligned = is_aligned(a.x.raw(), sizeof(Pack<From, kWidth>)) &&
                       is_aligned(a.y.raw(), sizeof(Pack<To, kWidth>));
  if (aligned)
    launch_scale<kWidth, From, To>(a, context);
  else
    launch_scale<1, From, To>(a, context);
}

template <class Visitor>
void visit_scaled(DType dtype, const Visitor& visitor) {
  if (dtype == DType::f64)
    visitor(double{});
  else
    visit_device(dtype, visitor);
}

// Kept where the 53 random bits reach rate * 2^53: uniform >= rate without arithmetic in f64.
struct KeepSome {
  philox::Key key;  // of stream 0
  const unsigned long long* stream;
  std::uint64_t first, least_kept;
  float keep;
  __device__ void operator()(std::int64_t i, const float (&x)[1], float (&y)[1]) const {
    philox::Key own = key;
    own.stream = *stream;
    const philox::Words words = philox::words_at(own, first + static_cast<std::uint64_t>(i));
    const bool kept = philox::unit_bits(words.word[0], words.word[1]) >= least_kept;
    y[0] = kept ? x[0] / keep : 0.0f;
  }
};

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
  visit_scaled(a.x.dtype(), [&](auto from) {
    visit_scaled(a.y.dtype(), [&](auto to) { scale<decltype(from), decltype(to)>(a, context); });
  });
}

void Dot::cuda(const Arguments& a, ExecutionContext& context) {
  visit_device(a.a.dtype(), [&](auto type) {
    using T = decltype(type);
    sum_elements(context, device_data<T>(a.a), device_data<T>(a.b), a.a.numel(), a.sum, false,
                 Product{});
  });
}

void Dropout::cuda(const Arguments& a, ExecutionContext& context) {
  map_elements(context, {a.x_TD}, {a.y_TD},
               KeepSome{.key = Philox(a.seed, RandomPurpose::dropout, 0).key(),
                        .stream = device_data<unsigned long long>(a.stream),
                        .first = static_cast<std::uint64_t>(a.first_row * columns_of(a.x_TD)),
                        .least_kept = static_cast<std::uint64_t>(std::ceil(std::ldexp(a.rate, 53))),
                        .keep = static_cast<float>(1 - a.rate)});
}

}  // namespace filigree
