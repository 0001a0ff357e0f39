#include "kernels/elementwise/floating.hpp"
#include "kernels/gate/head_projection.hpp"

namespace filigree {

void HeadProjection::reference(const Arguments& a, ExecutionContext&) {
  const auto [T, E, K, shared] = head_projection_sizes(a.heads, a.input_heads, a.x_THK, a.w_HEK);
  visit_floating(a.x_THK.dtype(), [&, T = T, E = E, K = K, shared = shared](auto type) {
    using S = decltype(type);
    const S *x = a.x_THK.data<S>(), *w = a.w_HEK.data<S>();
    for (std::int64_t t = 0; t < T; ++t)
      for (std::int64_t h = 0; h < a.heads; ++h)
        for (std::int64_t e = 0; e < E; ++e) {
          const std::int64_t row = h * E + e;
          Accumulator<S> sum = 0;
          for (std::int64_t k = 0; k < K; ++k)
            sum += widened(w[row * K + k]) * widened(x[(t * a.input_heads + h / shared) * K + k]);
          a.y_THE.data<S>()[t * a.heads * E + row] = rounded<S>(sum);
        }
  });
}

void HeadProjectionInputGradient::reference(const Arguments& a, ExecutionContext&) {
  const auto [T, E, K, shared] = head_projection_sizes(a.heads, a.input_heads, a.dx_THK, a.w_HEK);
  visit_floating(a.dx_THK.dtype(), [&, T = T, E = E, K = K, shared = shared](auto type) {
    using S = decltype(type);
    const S *dy = a.dy_THE.data<S>(), *w = a.w_HEK.data<S>();
    for (std::int64_t t = 0; t < T; ++t)
      for (std::int64_t hx = 0; hx < a.input_heads; ++hx)
        for (std::int64_t k = 0; k < K; ++k) {
          S& dx = a.dx_THK.data<S>()[(t * a.input_heads + hx) * K + k];
          Accumulator<S> sum = 0;
          for (std::int64_t row = hx * shared * E; row < (hx + 1) * shared * E; ++row)
            sum += widened(w[row * K + k]) * widened(dy[t * a.heads * E + row]);
          dx = rounded<S>(a.accumulate ? widened(dx) + sum : sum);
        }
  });
}

void HeadProjectionWeightGradient::reference(const Arguments& a, ExecutionContext&) {
  const auto [T, E, K, shared] = head_projection_sizes(a.heads, a.input_heads, a.x_THK, a.dw_HEK);
  visit_floating(a.x_THK.dtype(), [&, T = T, E = E, K = K, shared = shared](auto type) {
    using S = decltype(type);
    using A = Accumulator<S>;
    const S *x = a.x_THK.data<S>(), *dy = a.dy_THE.data<S>();
    for (std::int64_t row = 0; row < a.heads * E; ++row)
      for (std::int64_t k = 0; k < K; ++k) {
        A& dw = a.dw_HEK.data<A>()[row * K + k];
        const std::int64_t hx = row / E / shared;
        A sum = 0;
        for (std::int64_t t = 0; t < T; ++t)
          sum += widened(dy[t * a.heads * E + row]) * widened(x[(t * a.input_heads + hx) * K + k]);
        dw = a.accumulate ? dw + sum : sum;
      }
  });
}

}  // namespace filigree
