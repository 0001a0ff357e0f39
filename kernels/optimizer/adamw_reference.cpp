#include <cmath>

#include "kernels/elementwise/floating.hpp"
#include "kernels/optimizer/adamw.hpp"
#include "kernels/optimizer/update_factors.hpp"

namespace filigree {
namespace {

template <class T>
void update(const AdamW::Arguments& a) {
  const double* factors = a.factors.data<double>();
  if (std::isnan(factors[kGradientScale])) return;
  const T beta1 = static_cast<T>(a.beta1), beta2 = static_cast<T>(a.beta2);
  // 1 - beta is taken in f64: in f32, 1 - 0.999 has lost three digits.
  const T gain1 = static_cast<T>(1 - a.beta1), gain2 = static_cast<T>(1 - a.beta2);
  const T correction1 = static_cast<T>(factors[kCorrection1]);
  const T correction2 = static_cast<T>(factors[kCorrection2]);
  const T rate = static_cast<T>(factors[kRate]), eps = static_cast<T>(a.eps);
  const T decay = static_cast<T>(a.decay);
  const T gradient_scale = static_cast<T>(factors[kGradientScale]);
  T *w = a.w_N.data<T>(), *m = a.m_N.data<T>(), *v = a.v_N.data<T>();
  const T* g = a.g_N.data<T>();
  for (std::int64_t n = 0; n < a.w_N.numel(); ++n) {
    const T scaled = gradient_scale * g[n];
    m[n] = beta1 * m[n] + gain1 * scaled;
    v[n] = beta2 * v[n] + gain2 * scaled * scaled;
    const T direction = (m[n] / correction1) / (std::sqrt(v[n] / correction2) + eps);
    w[n] -= rate * (direction + decay * w[n]);
    if (a.compute_N.defined()) a.compute_N.data<BFloat16>()[n] = rounded<BFloat16>(w[n]);
  }
}

template <class T>
double sum_squares(const Tensor& x_N) {
  const T* x = x_N.data<T>();
  double sum = 0;
  for (std::int64_t n = 0; n < x_N.numel(); ++n) {
    const double value = static_cast<double>(widened(x[n]));
    sum += value * value;
  }
  return sum;
}

}  // namespace

void AdamW::reference(const Arguments& a, ExecutionContext&) {
  a.w_N.dtype() == DType::f64 ? update<double>(a) : update<float>(a);
}

void SumSquares::reference(const Arguments& a, ExecutionContext&) {
  double* sum = a.sum.data<double>();
  const double before = a.accumulate ? *sum : 0.0;
  visit_floating(a.x_N.dtype(),
                 [&](auto type) { *sum = before + sum_squares<decltype(type)>(a.x_N); });
}

}  // namespace filigree
