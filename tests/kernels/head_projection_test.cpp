#include "kernels/gate/head_projection.hpp"

#include <gtest/gtest.h>

#include "tests/harness/kernel_gradcheck.hpp"
#include "tests/harness/kernel_parity.hpp"

namespace filigree::testing {
namespace {

struct Case {
  std::int64_t tokens, heads, input_heads, in, out;
  Shape x() const { return {tokens, input_heads * in}; }
  Shape w() const { return {heads * out, in}; }
  Shape y() const { return {tokens, heads * out}; }
};
// Widths that are and are not whole vectors, tokens around the tile of 96 and the chunk of 256, one
// token, none, and enough for two partial sums of the weight gradient.
const std::vector<Case> kCases = {{0, 2, 1, 4, 4},    {1, 1, 1, 3, 5},    {7, 4, 2, 16, 8},
                                  {95, 2, 2, 17, 16}, {97, 6, 3, 32, 24}, {257, 2, 1, 64, 64},
                                  {300, 3, 3, 8, 33}, {4101, 1, 1, 8, 8}};

TEST(HeadProjection, MatchesTheReference) {
  const ParityOptions options{.threads = {1, 3}};  // each run costs an emulated GPU seconds
  for (const Case& c : kCases) {
    SCOPED_TRACE(str(c.tokens, " tokens, ", c.heads, " heads on ", c.input_heads, ", ", c.in,
                     " to ", c.out));
    expect_parity<HeadProjection>(
        [&](TensorSource& source) {
          return HeadProjection::Arguments{c.heads, c.input_heads, source.input(c.x()),
                                           source.input(c.w()), source.output("y", c.y())};
        },
        options);
    for (const bool accumulate : {false, true}) {
      expect_parity<HeadProjectionInputGradient>(
          [&](TensorSource& source) {
            return HeadProjectionInputGradient::Arguments{
                c.heads,
                c.input_heads,
                source.input(c.y()),
                source.input(c.w()),
                accumulate ? source.updated("dx", c.x()) : source.output("dx", c.x()),
                accumulate};
          },
          options);
      expect_parity<HeadProjectionWeightGradient>(
          [&](TensorSource& source) {
            const DType wide = source.accumulation();
            return HeadProjectionWeightGradient::Arguments{
                c.heads,
                c.input_heads,
                source.input(c.x()),
                source.input(c.y()),
                accumulate ? source.updated("dw", c.w(), {}, wide)
                           : source.output("dw", c.w(), wide),
                accumulate};
          },
          options);
    }
  }
}

// Two heads that share one input head of width 2.
TEST(HeadProjection, MatchesAHandComputedCase) {
  ExecutionContext context;
  const Tensor x = Tensor::from<double>({1, 2}, std::vector<double>{2, 3});
  const Tensor w = Tensor::from<double>({2, 2}, std::vector<double>{1, 10, 100, 1000});
  for (const std::string& name : implementation_names<HeadProjection>()) {
    context.forced_kernels["*"] = name;
    const Tensor y = context.empty({1, 2}, DType::f64), dx = context.empty({1, 2}, DType::f64);
    dispatch<HeadProjection>({2, 1, x, w, y}, context);
    EXPECT_EQ(y.data<double>()[0], 32) << name;
    EXPECT_EQ(y.data<double>()[1], 3200) << name;
    dispatch<HeadProjectionInputGradient>({2, 1, x, w, dx}, context);
    EXPECT_EQ(dx.data<double>()[0], 302) << name;
    EXPECT_EQ(dx.data<double>()[1], 3020) << name;
  }
}

TEST(HeadProjection, GradientsAreTheGradients) {
  const Case c{5, 4, 2, 3, 6};
  for (const std::string& name : implementation_names<HeadProjection>()) {
    SCOPED_TRACE(name);
    ExecutionContext context;
    context.forced_kernels["*"] = name;
    expect_kernel_gradients(
        {random_normal(c.x(), 1), random_normal(c.w(), 2)},
        [&](const Tensors& in) -> Tensors {
          const Tensor y = context.empty(c.y(), DType::f64);
          dispatch<HeadProjection>({c.heads, c.input_heads, in[0], in[1], y}, context);
          return {y};
        },
        [&](const Tensors& in, const Tensors& dy) -> Tensors {
          const Tensor dx = context.empty(c.x(), DType::f64), dw = context.empty(c.w(), DType::f64);
          dispatch<HeadProjectionInputGradient>({c.heads, c.input_heads, dy[0], in[1], dx},
                                                context);
          dispatch<HeadProjectionWeightGradient>({c.heads, c.input_heads, in[0], dy[0], dw},
                                                 context);
          return {dx, dw};
        });
  }
}

TEST(HeadProjection, RefusesHeadsThatDoNotShareEvenly) {
  ExecutionContext context;
  const auto zeros = [&](const Shape& shape) { return context.zeros(shape, DType::f32); };
  const auto reason =
      HeadProjection::reject({3, 2, zeros({1, 4}), zeros({3, 2}), zeros({1, 3})}, context);
  ASSERT_TRUE(reason.has_value());
  EXPECT_EQ(*reason, "3 heads on 2 input heads");
}

}  // namespace
}  // namespace filigree::testing
