#include <cmath>

#include "kernels/cuda/device.hpp"
#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/sums.hpp"
#include "kernels/optimizer/adamw.hpp"

namespace filigree {
namespace {

struct Update {
  float* w;
  const float* g;
  float *m, *v;
  DeviceBFloat16* compute;  // may be null
  float rate, beta1, beta2, gain1, gain2, correction1, correction2, eps, decay, gradient_scale;
};

__global__ void __launch_bounds__(256) adamw_kernel(Update u, std::int64_t count) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const float scaled = u.gradient_scale * u.g[i];
  const float m = u.beta1 * u.m[i] + u.gain1 * scaled;
  const float v = u.beta2 * u.v[i] + u.gain2 * scaled * scaled;
  const float direction = (m / u.correction1) / (sqrtf(v / u.correction2) + u.eps);
  const float w = u.w[i] - u.rate * (direction + u.decay * u.w[i]);
  u.m[i] = m;
  u.v[i] = v;
  u.w[i] = w;
  if (u.compute != nullptr) u.compute[i] = from_float<DeviceBFloat16>(w);
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
  const double step = static_cast<double>(a.step);
  // 1 - beta is taken in f64: in f32, 1 - 0.999 has lost three digits.
  const Update update{.w = device_data<float>(a.w_N),
                      .g = device_data<float>(a.g_N),
                      .m = device_data<float>(a.m_N),
                      .v = device_data<float>(a.v_N),
                      .compute = device_data<DeviceBFloat16>(a.compute_N),
                      .rate = f(a.rate),
                      .beta1 = f(a.beta1),
                      .beta2 = f(a.beta2),
                      .gain1 = f(1 - a.beta1),
                      .gain2 = f(1 - a.beta2),
                      .correction1 = f(1 - std::pow(a.beta1, step)),
                      .correction2 = f(1 - std::pow(a.beta2, step)),
                      .eps = f(a.eps),
                      .decay = f(a.decay),
                      .gradient_scale = f(a.gradient_scale)};
  launch(context, {blocks_for(a.w_N.numel(), 256), 256}, adamw_kernel, update, a.w_N.numel());
}

void SumSquares::cuda(const Arguments& a, ExecutionContext& context) {
  visit_device(a.x_N.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* const x = device_data<T>(a.x_N);
    sum_elements(context, x, x, a.x_N.numel(), a.sum, a.accumulate, Square{});
  });
}

}  // namespace filigree
