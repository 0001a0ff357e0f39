#include <cmath>

#include "kernels/cuda/device.hpp"
#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/sums.hpp"
#include "kernels/optimizer/adamw.hpp"
#include "kernels/optimizer/update_factors.hpp"

namespace filigree {
namespace {

constexpr int kThreads = 256;

struct Update {
  float* w;
  const float* g;
  float *m, *v;
  DeviceBFloat16* compute;  // may be null
  const double* factors;
  float beta1, beta2, gain1, gain2, eps, decay;
};

// kWidth elements a thread, one access for each array.
template <int kWidth>
__global__ void __launch_bounds__(kThreads) adamw_kernel(Update u, std::int64_t count) {
  using Wide = Pack<float, kWidth>;
  const std::int64_t first =
      (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kWidth;
  if (first >= count) return;
  const auto gradient_scale = static_cast<float>(u.factors[kGradientScale]);
  if (isnan(gradient_scale)) return;
  const auto rate = static_cast<float>(u.factors[kRate]);
  const auto correction1 = static_cast<float>(u.factors[kCorrection1]);
  const auto correction2 = static_cast<float>(u.factors[kCorrection2]);
  auto& g_place = *reinterpret_cast<const Wide*>(u.g + first);
  auto& m_place = *reinterpret_cast<Wide*>(u.m + first);
  auto& v_place = *reinterpret_cast<Wide*>(u.v + first);
  auto& w_place = *reinterpret_cast<Wide*>(u.w + first);
  const Wide g = g_place;
  Wide m = m_place, v = v_place, w = w_place;
  Pack<DeviceBFloat16, kWidth> compute;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    const float scaled = gradient_scale * g.values[i];
    m.values[i] = u.beta1 * m.values[i] + u.gain1 * scaled;
    v.values[i] = u.beta2 * v.values[i] + u.gain2 * scaled * scaled;
    const float direction =
        (m.values[i] / correction1) / (sqrtf(v.values[i] / correction2) + u.eps);
    w.values[i] -= rate * (direction + u.decay * w.values[i]);
    compute.values[i] = from_float<DeviceBFloat16>(w.values[i]);
  }
  m_place = m;
  v_place = v;
  w_place = w;
  if (u.compute != nullptr)
    *reinterpret_cast<Pack<DeviceBFloat16, kWidth>*>(u.compute + first) = compute;
}

// The whole packs, then the few elements behind them; or all one by one.
void launch_adamw(const Update& update, std::int64_t count, const ExecutionContext& context) {
  constexpr int kWidth = kWidest<float>;
  const bool aligned = is_aligned(update.w, 16) && is_aligned(update.g, 16) &&
                       is_aligned(update.m, 16) && is_aligned(update.v, 16) &&
                       is_aligned(update.compute, 8);
  const std::int64_t wide = aligned ? count / kWidth * kWidth : 0;
  launch(context, {blocks_for(wide, kThreads * kWidth), kThreads}, adamw_kernel<kWidth>, update,
         wide);
  Update rest = update;
  rest.w += wide;
  rest.g += wide;
  rest.m += wide;
  rest.v += wide;
  if (rest.compute != nullptr) rest.compute += wide;
  launch(context, {blocks_for(count - wide, kThreads), kThreads}, adamw_kernel<1>, rest,
         count - wide);
}

struct Square {
  template <class T>
  __device__ double operator()(const T* x, const T*, std::int64_t i) const {
    const double value = static_cast<double>(to_float(x[i]));
    return value * value;
  }
};

}  // namespace

void AdamW::cuda(const Arguments& a, ExecutionContext& context) {
  const auto f = [](double value) { return static_cast<float>(value); };
  // 1 - beta is taken in f64: in f32, 1 - 0.999 has lost three digits.
  const Update update{.w = device_data<float>(a.w_N),
                      .g = device_data<float>(a.g_N),
                      .m = device_data<float>(a.m_N),
                      .v = device_data<float>(a.v_N),
                      .compute = device_data<DeviceBFloat16>(a.compute_N),
                      .factors = device_data<double>(a.factors),
                      .beta1 = f(a.beta1),
                      .beta2 = f(a.beta2),
                      .gain1 = f(1 - a.beta1),
                      .gain2 = f(1 - a.beta2),
                      .eps = f(a.eps),
                      .decay = f(a.decay)};
  launch_adamw(update, a.w_N.numel(), context);
}

void SumSquares::cuda(const Arguments& a, ExecutionContext& context) {
  visit_device(a.x_N.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* const x = device_data<T>(a.x_N);
    sum_elements(context, x, x, a.x_N.numel(), a.sum, a.accumulate, Square{});
  });
}

}  // namespace filigree
