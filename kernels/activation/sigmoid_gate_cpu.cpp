#include "kernels/activation/sigmoid_gate.hpp"
#include "kernels/elementwise/floating.hpp"
#include "kernels/elementwise/vector_math.hpp"

namespace filigree {
namespace {

constexpr std::int64_t kExpCost = 4;  // an element with an exp takes as long as so many without

template <class T>
void forward(const SigmoidGateForward::Arguments& a, const ExecutionContext& context) {
  using A = Accumulator<T>;
  const T *x = a.x_TF.data<T>(), *gate = a.gate_TF.data<T>();
  T* y = a.y_TF.data<T>();
  for_each_chunk(context, a.y_TF.numel(), kChunkElements, kExpCost,
                 [=](std::int64_t begin, std::int64_t end) {
                   exp_loop<A>(begin, end, [=](std::int64_t i) {
                     y[i] = T(widened(x[i]) / (1 + vector_exp(-widened(gate[i]))));
                   });
                 });
}

template <class T>
void backward(const SigmoidGateBackward::Arguments& a, const ExecutionContext& context) {
  using A = Accumulator<T>;
  const T *x = a.x_TF.data<T>(), *gate = a.gate_TF.data<T>(), *dy = a.dy_TF.data<T>();
  T *dx = a.dx_TF.data<T>(), *dgate = a.dgate_TF.data<T>();
  for_each_chunk(context, a.dy_TF.numel(), kChunkElements, kExpCost,
                 [=](std::int64_t begin, std::int64_t end) {
                   exp_loop<A>(begin, end, [=](std::int64_t i) {
                     const A g = widened(dy[i]), s = 1 / (1 + vector_exp(-widened(gate[i])));
                     dx[i] = T(g * s);
                     dgate[i] = T(g * widened(x[i]) * s * (1 - s));
                   });
                 });
}

}  // namespace

void SigmoidGateForward::cpu(const Arguments& a, ExecutionContext& context) {
  visit_floating(a.x_TF.dtype(), [&](auto type) { forward<decltype(type)>(a, context); });
}

void SigmoidGateBackward::cpu(const Arguments& a, ExecutionContext& context) {
  visit_floating(a.x_TF.dtype(), [&](auto type) { backward<decltype(type)>(a, context); });
}

}  // namespace filigree
