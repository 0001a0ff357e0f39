#include "kernels/norm/rms_norm.hpp"

#include <gtest/gtest.h>

#include "tests/harness/kernel_gradcheck.hpp"
#include "tests/harness/kernel_parity.hpp"

namespace filigree::testing {
namespace {

// Rows around the 64 that one partial sum of dw covers, widths around the vector lengths, and empty
// batches.
const std::vector<Shape> kShapes = {{0, 8},   {1, 1},    {3, 7},     {5, 32},   {63, 33}, {64, 9},
                                    {65, 64}, {200, 17}, {300, 256}, {5, 1200}, {4, 601}};

Tensor inverse_root_mean_squares(const Tensor& x_TD) {
  const Tensor x = x_TD.to(DType::f64), r = Tensor::empty({x.dim(0)}, DType::f64);
  for (std::int64_t t = 0; t < x.dim(0); ++t) {
    const Tensor row = x.rows(t, t + 1);
    r.data<double>()[t] = std::sqrt(static_cast<double>(x.dim(1)) / inner_product(row, row));
  }
  return r;
}

Build<RmsNormForward> forward_case(const Shape& shape) {
  return [shape](TensorSource& source) {
    return RmsNormForward::Arguments{.x_TD = source.input(shape),
                                     .w_D = source.input({shape[1]}),
                                     .y_TD = source.output("y", shape),
                                     .r_T = source.output("r", {shape[0]}, source.accumulation()),
                                     .eps = 1e-5};
  };
}

Build<RmsNormBackward> backward_case(const Shape& shape, bool accumulate) {
  return [shape, accumulate](TensorSource& source) {
    RmsNormBackward::Arguments a;
    a.x_TD = source.input(shape);
    a.w_D = source.input({shape[1]});
    a.r_T =
        source.input_of(inverse_root_mean_squares(source.on_host(a.x_TD)), source.accumulation());
    a.dy_TD = source.input(shape);
    a.dx_TD = source.output("dx", shape);
    a.accumulate_dw = accumulate;
    a.dw_D = accumulate ? source.updated("dw", {shape[1]}, {}, source.accumulation())
                        : source.output("dw", {shape[1]}, source.accumulation());
    return a;
  };
}

TEST(RmsNorm, ForwardMatchesTheReference) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(str(shape));
    expect_parity<RmsNormForward>(forward_case(shape));
  }
}

TEST(RmsNorm, BackwardMatchesTheReference) {
  for (const Shape& shape : kShapes)
    for (const bool accumulate : {false, true}) {
      SCOPED_TRACE(str(shape, " accumulate ", accumulate));
      expect_parity<RmsNormBackward>(backward_case(shape, accumulate));
    }
}

TEST(RmsNorm, ReferenceMatchesAHandComputedRow) {
  const std::vector<double> x = {3, 4}, w = {2, -1};
  ExecutionContext context;
  context.forced_kernels["*"] = "reference";
  RmsNormForward::Arguments a{.x_TD = Tensor::from<double>({1, 2}, x),
                              .w_D = Tensor::from<double>({2}, w),
                              .y_TD = context.empty({1, 2}, DType::f64),
                              .r_T = context.empty({1}, DType::f64),
                              .eps = 0};
  dispatch<RmsNormForward>(a, context);
  EXPECT_NEAR(a.r_T.data<double>()[0], 1 / std::sqrt(12.5), 1e-15);
  EXPECT_NEAR(a.y_TD.data<double>()[0], 6 / std::sqrt(12.5), 1e-15);
  EXPECT_NEAR(a.y_TD.data<double>()[1], -4 / std::sqrt(12.5), 1e-15);
}

TEST(RmsNorm, BackwardIsTheGradient) {
  for (const std::string& name : implementation_names<RmsNormBackward>()) {
    SCOPED_TRACE(name);
    ExecutionContext context;
    context.forced_kernels["*"] = name;
    const Shape shape{6, 11};
    const auto forward = [&](const Tensors& in) -> Tensors {
      const Tensor y = context.empty(shape, DType::f64), r = context.empty({6}, DType::f64);
      dispatch<RmsNormForward>({.x_TD = in[0], .w_D = in[1], .y_TD = y, .r_T = r, .eps = 1e-3},
                               context);
      return {y};
    };
    const auto backward = [&](const Tensors& in, const Tensors& dy) -> Tensors {
      const Tensor y = context.empty(shape, DType::f64), r = context.empty({6}, DType::f64);
      dispatch<RmsNormForward>({.x_TD = in[0], .w_D = in[1], .y_TD = y, .r_T = r, .eps = 1e-3},
                               context);
      RmsNormBackward::Arguments a{.x_TD = in[0], .w_D = in[1], .r_T = r, .dy_TD = dy[0]};
      a.dx_TD = context.empty(shape, DType::f64);
      a.dw_D = context.empty({11}, DType::f64);
      dispatch<RmsNormBackward>(a, context);
      return {a.dx_TD, a.dw_D};
    };
    expect_kernel_gradients({random_normal(shape, 1), random_normal({11}, 2)}, forward, backward);
  }
}

TEST(RmsNorm, RefusalSaysWhichArgumentIsWrong) {
  ExecutionContext context;
  RmsNormForward::Arguments a{.x_TD = context.zeros({2, 4}, DType::f32),
                              .w_D = context.zeros({3}, DType::f32),
                              .y_TD = context.zeros({2, 4}, DType::f32),
                              .r_T = context.zeros({2}, DType::f32)};
  const auto reason = RmsNormForward::reject(a, context);
  ASSERT_TRUE(reason.has_value());
  EXPECT_EQ(*reason, "w is [3], expected 4 elements");
}

}  // namespace
}  // namespace filigree::testing
