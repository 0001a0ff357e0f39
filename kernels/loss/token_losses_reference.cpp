#include <cmath>

#include "kernels/elementwise/floating.hpp"
#include "kernels/loss/token_losses.hpp"

namespace filigree {

void RescaleSums::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.sum_T.dtype(), [&](auto type) {
    using T = decltype(type);
    const T *own = a.own_max_T.data<T>(), *all = a.max_T.data<T>();
    T* sum = a.sum_T.data<T>();
    for (std::int64_t t = 0, n = a.sum_T.numel(); t < n; ++t)
      sum[t] = T(widened(sum[t]) * std::exp(widened(own[t]) - widened(all[t])));
  });
}

void TokenLosses::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.sum_T.dtype(), [&](auto type) {
    using T = decltype(type);
    const T *max = a.max_T.data<T>(), *sum = a.sum_T.data<T>(), *target = a.target_T.data<T>();
    const auto* ids = a.ids_T.data<std::int32_t>();
    T *lse = a.lse_T.data<T>(), *log_p = a.log_p_T.data<T>();
    double loss = 0.0;
    for (std::int64_t t = 0, n = a.sum_T.numel(); t < n; ++t) {
      lse[t] = T(widened(max[t]) + std::log(widened(sum[t])));
      log_p[t] = ids[t] < 0 ? T{} : T(widened(target[t]) - widened(lse[t]));
      loss -= static_cast<double>(widened(log_p[t]));
    }
    if (a.loss.defined()) *a.loss.data<T>() = rounded<T>(loss);
  });
}

}  // namespace filigree
