#include <cmath>

#include "kernels/elementwise/floating.hpp"
#include "kernels/elementwise/loops.hpp"
#include "kernels/norm/rms_norm.hpp"

namespace filigree {
namespace {

// Rows whose contributions to dw are added before chunks are.
constexpr std::int64_t kRowsPerPartial = 64;

template <class T>
void forward(const RmsNormForward::Arguments& a, const ExecutionContext& context) {
  using A = Accumulator<T>;
  const std::int64_t D = columns_of(a.x_TD);
  const T *all_x = a.x_TD.data<T>(), *w = a.w_D.data<T>();
  T* all_y = a.y_TD.data<T>();
  A* r = a.r_T.data<A>();
  const A eps = static_cast<A>(a.eps);
  const auto rows = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      const T* x = all_x + t * D;
      T* y = all_y + t * D;
      A sum = 0;
#pragma omp simd reduction(+ : sum)
      for (std::int64_t d = 0; d < D; ++d) sum += widened(x[d]) * widened(x[d]);
      const A scale = 1 / std::sqrt(sum / static_cast<A>(D) + eps);
      r[t] = scale;
      vector_loop(0, D, [=](std::int64_t d) { y[d] = T(widened(x[d]) * scale * widened(w[d])); });
    }
  };
  for_each_chunk(context, rows_of(a.x_TD), rows_per_chunk(D), D, rows);
}

// dx of rows [begin, end); their share of dw is added to `partial`.
template <class T, class A>
void backward_rows(const RmsNormBackward::Arguments& a, std::int64_t begin, std::int64_t end,
                   A* partial) {
  const std::int64_t D = columns_of(a.x_TD);
  const T* w = a.w_D.data<T>();
  for (std::int64_t t = begin; t < end; ++t) {
    const T *x = a.x_TD.data<T>() + t * D, *dy = a.dy_TD.data<T>() + t * D;
    T* dx = a.dx_TD.data<T>() + t * D;
    const A r = a.r_T.data<A>()[t];
    A dot = 0;
#pragma omp simd reduction(+ : dot)
    for (std::int64_t d = 0; d < D; ++d) {
      const A product = widened(dy[d]) * widened(x[d]);
      dot += product * widened(w[d]);
      partial[d] += product * r;
    }
    const A projection = r * r / static_cast<A>(D) * dot;
    vector_loop(0, D, [=](std::int64_t d) {
      dx[d] = T(r * (widened(w[d]) * widened(dy[d]) - widened(x[d]) * projection));
    });
  }
}

template <class T>
void backward(const RmsNormBackward::Arguments& a, const ExecutionContext& context) {
  using A = Accumulator<T>;
  const std::int64_t rows = rows_of(a.x_TD), D = columns_of(a.x_TD);
  const std::int64_t chunks = (rows + kRowsPerPartial - 1) / kRowsPerPartial;
  const Tensor partials = context.empty({chunks, D}, dtype_of<A>);
  for_each_chunk(context, rows, kRowsPerPartial, D, [&](std::int64_t begin, std::int64_t end) {
    A* partial = partials.data<A>() + begin / kRowsPerPartial * D;
    std::fill_n(partial, D, A{0});
    backward_rows<T, A>(a, begin, end, partial);
  });
  A* dw = a.dw_D.data<A>();
  if (!a.accumulate_dw) a.dw_D.zero();
  for (std::int64_t c = 0; c < chunks; ++c) {
    const A* partial = partials.data<A>() + c * D;
    vector_loop(0, D, [=](std::int64_t d) { dw[d] += partial[d]; });
  }
}

}  // namespace

void RmsNormForward::cpu(const Arguments& a, ExecutionContext& context) {
  visit_floating(a.x_TD.dtype(), [&](auto type) { forward<decltype(type)>(a, context); });
}

void RmsNormBackward::cpu(const Arguments& a, ExecutionContext& context) {
  visit_floating(a.x_TD.dtype(), [&](auto type) { backward<decltype(type)>(a, context); });
}

}  // namespace filigree
