#include <cmath>

#include "kernels/elementwise/floating.hpp"
#include "kernels/rope/rope.hpp"

namespace filigree {
namespace {

template <class T>
void rotate(const Rope::Arguments& a) {
  using A = Accumulator<T>;
  const std::int64_t T_ = a.positions_T.numel(), K = a.head_dim;
  const std::int64_t heads = T_ == 0 ? 0 : a.x_THK.numel() / (T_ * K);
  const auto* positions = a.positions_T.data<std::int32_t>();
  const T* x = a.x_THK.data<T>();
  T* y = a.y_THK.data<T>();
  for (std::int64_t t = 0; t < T_; ++t)
    for (std::int64_t h = 0; h < heads; ++h)
      for (std::int64_t i = 0; i < K / 2; ++i) {
        const double angle = positions[t] * a.frequencies.of(i, K);
        const A cosine = static_cast<A>(std::cos(angle));
        const A sine = static_cast<A>(a.inverse ? -std::sin(angle) : std::sin(angle));
        const std::int64_t low = (t * heads + h) * K + i, high = low + K / 2;
        const A x_low = widened(x[low]), x_high = widened(x[high]);
        y[low] = T(x_low * cosine - x_high * sine);
        y[high] = T(x_high * cosine + x_low * sine);
      }
}

}  // namespace

void Rope::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.x_THK.dtype(), [&](auto type) { rotate<decltype(type)>(a); });
}

}  // namespace filigree
