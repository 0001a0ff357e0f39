#include <cmath>

#include "kernels/elementwise/floating.hpp"
#include "kernels/elementwise/loops.hpp"
#include "kernels/optimizer/adamw.hpp"
#include "kernels/optimizer/update_factors.hpp"

namespace filigree {
namespace {

// Elements whose squares are added before chunks are.
constexpr std::int64_t kSquaresPerPartial = 32 * 1024;

template <class T>
struct Coefficients {
  Coefficients(const AdamW::Arguments& a, const double* factors)
      : beta1(static_cast<T>(a.beta1)),
        beta2(static_cast<T>(a.beta2)),
        gain1(static_cast<T>(1 - a.beta1)),
        gain2(static_cast<T>(1 - a.beta2)),
        inverse_correction1(static_cast<T>(1 / factors[kCorrection1])),
        inverse_correction2(static_cast<T>(1 / factors[kCorrection2])),
        rate(static_cast<T>(factors[kRate])),
        eps(static_cast<T>(a.eps)),
        decay(static_cast<T>(a.decay)),
        gradient_scale(static_cast<T>(factors[kGradientScale])) {}
  T beta1, beta2, gain1, gain2, inverse_correction1, inverse_correction2;
  T rate, eps, decay, gradient_scale;
};

// One pass over all streams. has_compute is a template parameter to keep the test out of the loop.
template <class T, bool has_compute>
void update(const AdamW::Arguments& a, const ExecutionContext& context) {
  const double* factors = a.factors.data<double>();
  if (std::isnan(factors[kGradientScale])) return;
  const Coefficients<T> k(a, factors);
  T *w = a.w_N.data<T>(), *m = a.m_N.data<T>(), *v = a.v_N.data<T>();
  const T* g = a.g_N.data<T>();
  BFloat16* compute = has_compute ? a.compute_N.data<BFloat16>() : nullptr;
  for_each_chunk(
      context, a.w_N.numel(), kChunkElements, 4, [=](std::int64_t begin, std::int64_t end) {
        vector_loop(begin, end, [=](std::int64_t n) {
          const T scaled = k.gradient_scale * g[n];
          const T first = k.beta1 * m[n] + k.gain1 * scaled;
          const T second = k.beta2 * v[n] + k.gain2 * scaled * scaled;
          const T direction =
              first * k.inverse_correction1 / (std::sqrt(second * k.inverse_correction2) + k.eps);
          const T weight = w[n] - k.rate * (direction + k.decay * w[n]);
          m[n] = first;
          v[n] = second;
          w[n] = weight;
          if constexpr (has_compute) compute[n] = rounded<BFloat16>(weight);
        });
      });
}

template <class T>
double sum_squares(const T* x, std::int64_t begin, std::int64_t end) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t n = begin; n < end; ++n) {
    const double value = static_cast<double>(widened(x[n]));
    sum += value * value;
  }
  return sum;
}

template <class T>
double sum_squares(const Tensor& x_N, const ExecutionContext& context) {
  const T* x = x_N.data<T>();
  const std::int64_t N = x_N.numel(), chunks = (N + kSquaresPerPartial - 1) / kSquaresPerPartial;
  if (chunks <= 1) return sum_squares(x, 0, N);
  const Tensor partials = context.empty({chunks}, DType::f64);
  double* partial = partials.data<double>();
  for_each_chunk(context, N, kSquaresPerPartial, 1, [=](std::int64_t begin, std::int64_t end) {
    partial[begin / kSquaresPerPartial] = sum_squares(x, begin, end);
  });
  double sum = 0;
  for (std::int64_t c = 0; c < chunks; ++c) sum += partial[c];
  return sum;
}

}  // namespace

void AdamW::cpu(const Arguments& a, ExecutionContext& context) {
  visit_floating(a.w_N.dtype(), [&](auto type) {
    using T = Accumulator<decltype(type)>;  // reject keeps bf16 masters out
    a.compute_N.defined() ? update<T, true>(a, context) : update<T, false>(a, context);
  });
}

void SumSquares::cpu(const Arguments& a, ExecutionContext& context) {
  double* sum = a.sum.data<double>();
  const double before = a.accumulate ? *sum : 0.0;
  visit_floating(a.x_N.dtype(),
                 [&](auto type) { *sum = before + sum_squares<decltype(type)>(a.x_N, context); });
}

}  // namespace filigree
