#include <cmath>

#include "kernels/activation/swiglu.hpp"
#include "kernels/elementwise/floating.hpp"

namespace filigree {
namespace {

template <class T>
void forward(const SwigluForward::Arguments& a) {
  using A = Accumulator<T>;
  const T *gate = a.gate_TF.data<T>(), *up = a.up_TF.data<T>();
  T* y = a.y_TF.data<T>();
  for (std::int64_t i = 0, n = a.y_TF.numel(); i < n; ++i) {
    const A z = widened(gate[i]);
    y[i] = T(z / (1 + std::exp(-z)) * widened(up[i]));
  }
}

template <class T>
void backward(const SwigluBackward::Arguments& a) {
  using A = Accumulator<T>;
  const T *gate = a.gate_TF.data<T>(), *up = a.up_TF.data<T>(), *dy = a.dy_TF.data<T>();
  T *dgate = a.dgate_TF.data<T>(), *dup = a.dup_TF.data<T>();
  for (std::int64_t i = 0, n = a.dy_TF.numel(); i < n; ++i) {
    const A z = widened(gate[i]), u = widened(up[i]), g = widened(dy[i]);
    const A sigmoid = 1 / (1 + std::exp(-z));
    dgate[i] = T(g * u * sigmoid * (1 + z * (1 - sigmoid)));
    dup[i] = T(g * z * sigmoid);
  }
}

}  // namespace

void SwigluForward::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.gate_TF.dtype(), [&](auto type) { forward<decltype(type)>(a); });
}

void SwigluBackward::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.gate_TF.dtype(), [&](auto type) { backward<decltype(type)>(a); });
}

}  // namespace filigree
