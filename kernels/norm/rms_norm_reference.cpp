#include <cmath>

#include "kernels/elementwise/floating.hpp"
#include "kernels/norm/rms_norm.hpp"

namespace filigree {
namespace {

template <class T>
void forward(const RmsNormForward::Arguments& a) {
  using A = Accumulator<T>;
  const std::int64_t T_ = rows_of(a.x_TD), D = columns_of(a.x_TD);
  const T *x = a.x_TD.data<T>(), *w = a.w_D.data<T>();
  T* y = a.y_TD.data<T>();
  A* r = a.r_T.data<A>();
  for (std::int64_t t = 0; t < T_; ++t) {
    A sum = 0;
    for (std::int64_t d = 0; d < D; ++d) sum += widened(x[t * D + d]) * widened(x[t * D + d]);
    r[t] = 1 / std::sqrt(sum / static_cast<A>(D) + static_cast<A>(a.eps));
    for (std::int64_t d = 0; d < D; ++d)
      y[t * D + d] = T(widened(x[t * D + d]) * r[t] * widened(w[d]));
  }
}

template <class T>
void backward(const RmsNormBackward::Arguments& a) {
  using A = Accumulator<T>;
  const std::int64_t T_ = rows_of(a.x_TD), D = columns_of(a.x_TD);
  const T *x = a.x_TD.data<T>(), *w = a.w_D.data<T>(), *dy = a.dy_TD.data<T>();
  const A* r = a.r_T.data<A>();
  T* dx = a.dx_TD.data<T>();
  A* dw = a.dw_D.data<A>();
  if (!a.accumulate_dw) a.dw_D.zero();
  for (std::int64_t t = 0; t < T_; ++t) {
    A dot = 0;
    for (std::int64_t d = 0; d < D; ++d) {
      const std::int64_t i = t * D + d;
      dot += widened(w[d]) * widened(dy[i]) * widened(x[i]);
      dw[d] += widened(dy[i]) * widened(x[i]) * r[t];
    }
    const A projection = r[t] * r[t] / static_cast<A>(D) * dot;
    for (std::int64_t d = 0; d < D; ++d) {
      const std::int64_t i = t * D + d;
      dx[i] = T(r[t] * (widened(w[d]) * widened(dy[i]) - widened(x[i]) * projection));
    }
  }
}

}  // namespace

void RmsNormForward::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.x_TD.dtype(), [&](auto type) { forward<decltype(type)>(a); });
}

void RmsNormBackward::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.x_TD.dtype(), [&](auto type) { backward<decltype(type)>(a); });
}

}  // namespace filigree
