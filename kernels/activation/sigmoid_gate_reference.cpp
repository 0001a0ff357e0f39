#include <cmath>

#include "kernels/activation/sigmoid_gate.hpp"
#include "kernels/elementwise/floating.hpp"

namespace filigree {
namespace {

template <class T>
void forward(const SigmoidGateForward::Arguments& a) {
  const T *x = a.x_TF.data<T>(), *gate = a.gate_TF.data<T>();
  T* y = a.y_TF.data<T>();
  for (std::int64_t i = 0, n = a.y_TF.numel(); i < n; ++i)
    y[i] = T(widened(x[i]) / (1 + std::exp(-widened(gate[i]))));
}

template <class T>
void backward(const SigmoidGateBackward::Arguments& a) {
  using A = Accumulator<T>;
  const T *x = a.x_TF.data<T>(), *gate = a.gate_TF.data<T>(), *dy = a.dy_TF.data<T>();
  T *dx = a.dx_TF.data<T>(), *dgate = a.dgate_TF.data<T>();
  for (std::int64_t i = 0, n = a.dy_TF.numel(); i < n; ++i) {
    const A g = widened(dy[i]), s = 1 / (1 + std::exp(-widened(gate[i])));
    dx[i] = T(g * s);
    dgate[i] = T(g * widened(x[i]) * s * (1 - s));
  }
}

}  // namespace

void SigmoidGateForward::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.x_TF.dtype(), [&](auto type) { forward<decltype(type)>(a); });
}

void SigmoidGateBackward::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.x_TF.dtype(), [&](auto type) { backward<decltype(type)>(a); });
}

}  // namespace filigree
