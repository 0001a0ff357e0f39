#include "kernels/activation/swiglu.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/elementwise/vector_math.hpp"
#include "tests/harness/kernel_gradcheck.hpp"
#include "tests/harness/kernel_parity.hpp"

namespace filigree::testing {
namespace {

// Around the vector length and the 16,384 elements of a chunk; the last is shared out to threads.
const std::vector<Shape> kShapes = {{0, 4},   {1, 1},     {3, 5},     {1, 31},    {1, 33},
                                    {4, 100}, {1, 16383}, {1, 16384}, {1, 16385}, {3, 16390}};

TEST(Swiglu, ForwardMatchesTheReference) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(str(shape));
    expect_parity<SwigluForward>([&](TensorSource& source) {
      return SwigluForward::Arguments{
          .gate_TF = source.input(shape, [](double z) { return 4 * z; }),
          .up_TF = source.input(shape),
          .y_TF = source.output("y", shape)};
    });
  }
}

TEST(Swiglu, BackwardMatchesTheReference) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(str(shape));
    expect_parity<SwigluBackward>([&](TensorSource& source) {
      return SwigluBackward::Arguments{
          .gate_TF = source.input(shape, [](double z) { return 4 * z; }),
          .up_TF = source.input(shape),
          .dy_TF = source.input(shape),
          .dgate_TF = source.output("dgate", shape),
          .dup_TF = source.output("dup", shape)};
    });
  }
}

// Where exp overflows and where it underflows the gate is closed or open, never NaN.
TEST(Swiglu, SaturatedGatesStayFinite) {
  const std::vector<float> gate = {-1000, -100, -89, 0, 89, 100, 1000}, ones(7, 1.0f);
  for (const std::string& name : implementation_names<SwigluForward>()) {
    ExecutionContext context;
    context.forced_kernels["*"] = name;
    const Tensor y = context.empty({7}, DType::f32);
    dispatch<SwigluForward>({.gate_TF = Tensor::from<float>({7}, gate),
                             .up_TF = Tensor::from<float>({7}, ones),
                             .y_TF = y},
                            context);
    for (int i = 0; i < 7; ++i)
      EXPECT_NEAR(y.data<float>()[i], std::max(0.0f, gate[i]), 1e-30f) << name << " at " << gate[i];
  }
}

TEST(Swiglu, BackwardIsTheGradient) {
  const Shape shape{5, 7};
  for (const std::string& name : implementation_names<SwigluBackward>()) {
    SCOPED_TRACE(name);
    ExecutionContext context;
    context.forced_kernels["*"] = name;
    expect_kernel_gradients(
        {random_normal(shape, 1), random_normal(shape, 2)},
        [&](const Tensors& in) -> Tensors {
          const Tensor y = context.empty(shape, DType::f64);
          dispatch<SwigluForward>({.gate_TF = in[0], .up_TF = in[1], .y_TF = y}, context);
          return {y};
        },
        [&](const Tensors& in, const Tensors& dy) -> Tensors {
          const Tensor dgate = context.empty(shape, DType::f64),
                       dup = context.empty(shape, DType::f64);
          dispatch<SwigluBackward>(
              {.gate_TF = in[0], .up_TF = in[1], .dy_TF = dy[0], .dgate_TF = dgate, .dup_TF = dup},
              context);
          return {dgate, dup};
        });
  }
}

TEST(VectorMath, ExpIsWithinTwoUnitsInTheLastPlace) {
  double worst = 0;
  for (float x = -87.0f; x < 88.7f; x += 0.00037f) {
    const double truth = std::exp(static_cast<double>(x));
    worst =
        std::max(worst, std::abs(vector_exp(x) - truth) / unit_in_last_place(DType::f32, truth));
  }
  EXPECT_LE(worst, 2.0);
}

TEST(VectorMath, ExpAtTheEdges) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(vector_exp(0.0f), 1.0f);
  EXPECT_EQ(vector_exp(-kInfinity), 0.0f);
  EXPECT_EQ(vector_exp(kInfinity), kInfinity);
  EXPECT_EQ(vector_exp(89.0f), kInfinity);
  EXPECT_EQ(vector_exp(-104.0f), 0.0f);
  EXPECT_NEAR(vector_exp(-100.0f), 0x1.b8p-145f, 0x1p-148f);  // subnormal
  EXPECT_TRUE(std::isnan(vector_exp(std::numeric_limits<float>::quiet_NaN())));
}

}  // namespace
}  // namespace filigree::testing
