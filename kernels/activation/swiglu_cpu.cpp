#include "kernels/activation/swiglu.hpp"
#include "kernels/elementwise/floating.hpp"
#include "kernels/elementwise/vector_math.hpp"

namespace filigree {
namespace {

constexpr std::int64_t kExpCost = 4;  // an element with an exp takes as long as so many without

template <class T>
void forward(const SwigluForward::Arguments& a, const ExecutionContext& context) {
  using A = Accumulator<T>;
  const T *gate = a.gate_TF.data<T>(), *up = a.up_TF.data<T>();
  T* y = a.y_TF.data<T>();
  for_each_chunk(context, a.y_TF.numel(), kChunkElements, kExpCost,
                 [=](std::int64_t begin, std::int64_t end) {
                   exp_loop<A>(begin, end, [=](std::int64_t i) {
                     const A z = widened(gate[i]);
                     y[i] = T(z / (1 + vector_exp(-z)) * widened(up[i]));
                   });
                 });
}

template <class T>
void backward(const SwigluBackward::Arguments& a, const ExecutionContext& context) {
  using A = Accumulator<T>;
  const T *gate = a.gate_TF.data<T>(), *up = a.up_TF.data<T>(), *dy = a.dy_TF.data<T>();
  T *dgate = a.dgate_TF.data<T>(), *dup = a.dup_TF.data<T>();
  for_each_chunk(context, a.dy_TF.numel(), kChunkElements, kExpCost,
                 [=](std::int64_t begin, std::int64_t end) {
                   exp_loop<A>(begin, end, [=](std::int64_t i) {
                     const A z = widened(gate[i]), u = widened(up[i]), g = widened(dy[i]);
                     const A sigmoid = 1 / (1 + vector_exp(-z));
                     dgate[i] = T(g * u * sigmoid * (1 + z * (1 - sigmoid)));
                     dup[i] = T(g * z * sigmoid);
                   });
                 });
}

}  // namespace

void SwigluForward::cpu(const Arguments& a, ExecutionContext& context) {
  visit_floating(a.gate_TF.dtype(), [&](auto type) { forward<decltype(type)>(a, context); });
}

void SwigluBackward::cpu(const Arguments& a, ExecutionContext& context) {
  visit_floating(a.gate_TF.dtype(), [&](auto type) { backward<decltype(type)>(a, context); });
}

}  // namespace filigree
