#include "kernels/activation/sigmoid_gate.hpp"

#include <gtest/gtest.h>

#include "tests/harness/kernel_gradcheck.hpp"
#include "tests/harness/kernel_parity.hpp"

namespace filigree::testing {
namespace {

// Around the vector length and the 16,384 elements of a chunk; the last is shared out to threads.
const std::vector<Shape> kShapes = {{0, 4},   {1, 1},     {3, 5},     {1, 31},    {1, 33},
                                    {4, 100}, {1, 16383}, {1, 16384}, {1, 16385}, {3, 16390}};

TEST(SigmoidGate, ForwardMatchesTheReference) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(str(shape));
    expect_parity<SigmoidGateForward>([&](TensorSource& source) {
      return SigmoidGateForward::Arguments{
          .x_TF = source.input(shape),
          .gate_TF = source.input(shape, [](double z) { return 4 * z; }),
          .y_TF = source.output("y", shape)};
    });
  }
}

TEST(SigmoidGate, BackwardMatchesTheReference) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(str(shape));
    expect_parity<SigmoidGateBackward>([&](TensorSource& source) {
      return SigmoidGateBackward::Arguments{
          .x_TF = source.input(shape),
          .gate_TF = source.input(shape, [](double z) { return 4 * z; }),
          .dy_TF = source.input(shape),
          .dx_TF = source.output("dx", shape),
          .dgate_TF = source.output("dgate", shape)};
    });
  }
}

// Where exp overflows and where it underflows the gate is closed or open, never NaN.
TEST(SigmoidGate, SaturatedGatesStayFinite) {
  const std::vector<float> gate = {-1000, -100, 0, 100, 1000}, x(5, -3.0f);
  const std::vector<float> y = {0, 0, -1.5f, -3, -3}, dx = {0, 0, 0.5f, 1, 1},
                           dgate = {0, 0, -0.75f, 0, 0};
  for (const std::string& name : implementation_names<SigmoidGateForward>()) {
    SCOPED_TRACE(name);
    ExecutionContext context;
    context.forced_kernels["*"] = name;
    const Tensor out = context.empty({5}, DType::f32), first = context.empty({5}, DType::f32),
                 second = context.empty({5}, DType::f32);
    const Tensor gates = Tensor::from<float>({5}, gate), values = Tensor::from<float>({5}, x);
    dispatch<SigmoidGateForward>({.x_TF = values, .gate_TF = gates, .y_TF = out}, context);
    dispatch<SigmoidGateBackward>({.x_TF = values,
                                   .gate_TF = gates,
                                   .dy_TF = Tensor::from<float>({5}, std::vector<float>(5, 1.0f)),
                                   .dx_TF = first,
                                   .dgate_TF = second},
                                  context);
    for (std::size_t i = 0; i < 5; ++i) {
      EXPECT_NEAR(out.data<float>()[i], y[i], 1e-30f) << "at " << gate[i];
      EXPECT_NEAR(first.data<float>()[i], dx[i], 1e-30f) << "at " << gate[i];
      EXPECT_NEAR(second.data<float>()[i], dgate[i], 1e-30f) << "at " << gate[i];
    }
  }
}

TEST(SigmoidGate, BackwardIsTheGradient) {
  const Shape shape{5, 7};
  for (const std::string& name : implementation_names<SigmoidGateBackward>()) {
    SCOPED_TRACE(name);
    ExecutionContext context;
    context.forced_kernels["*"] = name;
    expect_kernel_gradients(
        {random_normal(shape, 1), random_normal(shape, 2)},
        [&](const Tensors& in) -> Tensors {
          const Tensor y = context.empty(shape, DType::f64);
          dispatch<SigmoidGateForward>({.x_TF = in[0], .gate_TF = in[1], .y_TF = y}, context);
          return {y};
        },
        [&](const Tensors& in, const Tensors& dy) -> Tensors {
          const Tensor dx = context.empty(shape, DType::f64),
                       dgate = context.empty(shape, DType::f64);
          dispatch<SigmoidGateBackward>(
              {.x_TF = in[0], .gate_TF = in[1], .dy_TF = dy[0], .dx_TF = dx, .dgate_TF = dgate},
              context);
          return {dx, dgate};
        });
  }
}

}  // namespace
}  // namespace filigree::testing
