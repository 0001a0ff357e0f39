#include <algorithm>

#include "kernels/elementwise/floating.hpp"
#include "kernels/elementwise/loops.hpp"
#include "kernels/embedding/embedding.hpp"

namespace filigree {
namespace {

template <class T>
void forward(const EmbeddingForward::Arguments& a, const ExecutionContext& context) {
  const std::int64_t V = a.w_VD.dim(0), D = a.w_VD.dim(1);
  const auto* ids = a.ids_T.data<std::int32_t>();
  const T* w = a.w_VD.data<T>();
  T* y = a.y_TD.data<T>();
  for_each_chunk(context, a.ids_T.numel(), rows_per_chunk(D), D,
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t t = begin; t < end; ++t) {
                     const std::int64_t row = ids[t] - a.first_row;
                     if (row >= 0 && row < V)
                       std::copy_n(w + row * D, D, y + t * D);
                     else
                       std::fill_n(y + t * D, D, T{});
                   }
                 });
}

// Two tokens may share a row of dw, so threads share columns out, not tokens: every element is
// added up in ascending t by one thread, in the order of the reference.
template <class T>
void backward(const EmbeddingBackward::Arguments& a, const ExecutionContext& context) {
  using A = Accumulator<T>;
  const std::int64_t tokens = a.ids_T.numel(), V = a.dw_VD.dim(0), D = a.dw_VD.dim(1);
  const auto* ids = a.ids_T.data<std::int32_t>();
  const T* dy = a.dy_TD.data<T>();
  A* dw = a.dw_VD.data<A>();
  if (!a.accumulate)
    for_each_chunk(context, V * D, kChunkElements, 1, [&](std::int64_t begin, std::int64_t end) {
      std::fill(dw + begin, dw + end, A{0});
    });
  constexpr std::int64_t kCacheLines = 64;  // elements: narrower columns would waste lines
  const std::int64_t share = (D + context.num_threads - 1) / std::max(1, context.num_threads);
  for_each_chunk(context, D, std::max(kCacheLines, share), tokens,
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t t = 0; t < tokens; ++t) {
                     const std::int64_t row = ids[t] - a.first_row;
                     if (row < 0 || row >= V) continue;
                     const T* from = dy + t * D;
                     A* to = dw + row * D;
                     vector_loop(begin, end, [=](std::int64_t d) { to[d] += widened(from[d]); });
                   }
                 });
}

}  // namespace

void EmbeddingForward::cpu(const Arguments& a, ExecutionContext& context) {
  visit_floating(a.w_VD.dtype(), [&](auto type) { forward<decltype(type)>(a, context); });
}

void EmbeddingBackward::cpu(const Arguments& a, ExecutionContext& context) {
  visit_floating(a.dy_TD.dtype(), [&](auto type) { backward<decltype(type)>(a, context); });
}

}  // namespace filigree
