#include <algorithm>

#include "kernels/elementwise/floating.hpp"
#include "kernels/embedding/embedding.hpp"

namespace filigree {
namespace {

template <class T>
void forward(const EmbeddingForward::Arguments& a) {
  const std::int64_t T_ = a.ids_T.numel(), V = a.w_VD.dim(0), D = a.w_VD.dim(1);
  const auto* ids = a.ids_T.data<std::int32_t>();
  const T* w = a.w_VD.data<T>();
  T* y = a.y_TD.data<T>();
  for (std::int64_t t = 0; t < T_; ++t) {
    const std::int64_t row = ids[t] - a.first_row;
    if (row >= 0 && row < V)
      std::copy_n(w + row * D, D, y + t * D);
    else
      std::fill_n(y + t * D, D, T{});
  }
}

template <class T>
void backward(const EmbeddingBackward::Arguments& a) {
  using A = Accumulator<T>;
  const std::int64_t T_ = a.ids_T.numel(), V = a.dw_VD.dim(0), D = a.dw_VD.dim(1);
  const auto* ids = a.ids_T.data<std::int32_t>();
  const T* dy = a.dy_TD.data<T>();
  A* dw = a.dw_VD.data<A>();
  if (!a.accumulate) a.dw_VD.zero();
  for (std::int64_t t = 0; t < T_; ++t) {
    const std::int64_t row = ids[t] - a.first_row;
    if (row < 0 || row >= V) continue;
    for (std::int64_t d = 0; d < D; ++d) dw[row * D + d] += widened(dy[t * D + d]);
  }
}

}  // namespace

void EmbeddingForward::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.w_VD.dtype(), [&](auto type) { forward<decltype(type)>(a); });
}

void EmbeddingBackward::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.dy_TD.dtype(), [&](auto type) { backward<decltype(type)>(a); });
}

}  // namespace filigree
