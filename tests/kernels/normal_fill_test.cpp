#include "kernels/random/normal_fill.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/elementwise/floating.hpp"
#include "runtime/core/random.hpp"
#include "tests/harness/kernel_parity.hpp"

namespace filigree::testing {
namespace {

TEST(NormalFill, MatchesTheReference) {
  for (const Shape& shape : {Shape{0, 3}, Shape{3, 0}, Shape{1, 1}, Shape{5, 51}, Shape{1, 255},
                             Shape{1, 256}, Shape{1, 257}, Shape{40, 60}}) {
    SCOPED_TRACE(str(shape));
    expect_parity<NormalFill>([&](TensorSource& source) {
      return NormalFill::Arguments{.x_RC = source.output("x", shape),
                                   .mean = 0.5,
                                   .deviation = 0.02,
                                   .seed = 9,
                                   .stream = 4,
                                   .first_row = 6,
                                   .first_column = 2,
                                   .global_columns = shape[1] + 10};
    });
  }
}

TEST(NormalFill, EveryImplementationGivesTheSameBits) {
  const Build<NormalFill> build = [](TensorSource& source) {
    return NormalFill::Arguments{.x_RC = source.output("x", {30, 40}),
                                 .mean = -0.1,
                                 .deviation = 0.37,
                                 .seed = 0x123456789abcdefull,
                                 .stream = 0xfedcba9876543210ull,
                                 .first_row = std::int64_t{1} << 33,
                                 .first_column = 3,
                                 .global_columns = 50};
  };
  expect_reference_bits<NormalFill>(build, {DType::f64, DType::f32, DType::bf16});
}

Tensor filled(const Shape& shape, std::int64_t first_row, std::int64_t first_column,
              std::int64_t global_columns, const std::string& name, DType dtype = DType::f64) {
  ExecutionContext context;
  context.forced_kernels["*"] = name;
  const Tensor x = context.empty(shape, dtype);
  dispatch<NormalFill>({.x_RC = x,
                        .seed = 9,
                        .first_row = first_row,
                        .first_column = first_column,
                        .global_columns = global_columns},
                       context);
  return x;
}

TEST(NormalFill, SlicesEqualTheWhole) {
  for (const std::string& name : implementation_names<NormalFill>()) {
    const Tensor whole = filled({8, 12}, 0, 0, 12, name);
    const Tensor rows = filled({3, 12}, 5, 0, 12, name);
    for (int i = 0; i < 36; ++i) EXPECT_EQ(rows.data<double>()[i], whole.data<double>()[60 + i]);
    const Tensor block = filled({4, 5}, 2, 7, 12, name);
    for (int r = 0; r < 4; ++r)
      for (int c = 0; c < 5; ++c)
        EXPECT_EQ(block.data<double>()[r * 5 + c], whole.data<double>()[(r + 2) * 12 + c + 7])
            << name;
  }
}

TEST(NormalFill, RoundsTheF64ValuesOnce) {
  const Tensor exact = filled({10, 10}, 0, 0, 10, "cpu");
  const Tensor single = filled({10, 10}, 0, 0, 10, "cpu", DType::f32);
  const Tensor half = filled({10, 10}, 0, 0, 10, "cpu", DType::bf16);
  for (int i = 0; i < 100; ++i) {
    const double value = exact.data<double>()[i];
    EXPECT_EQ(value, Philox(9, RandomPurpose::initialisation, 0).normal(i));
    EXPECT_EQ(single.data<float>()[i], static_cast<float>(value));
    EXPECT_EQ(half.data<BFloat16>()[i].bits, rounded<BFloat16>(value).bits);
  }
}

TEST(NormalFill, MomentsAreThoseOfANormal) {
  constexpr double kCount = 1e5;
  const Tensor x = filled({100, 1000}, 0, 0, 1000, "cpu");
  double mean = 0, square = 0, fourth = 0;
  for (const double value : x.span<double>()) {
    mean += value / kCount;
    square += value * value / kCount;
    fourth += value * value * value * value / kCount;
  }
  // Five standard deviations of each estimate: 1, sqrt(2) and sqrt(96) over sqrt(count).
  EXPECT_NEAR(mean, 0.0, 5.0 / std::sqrt(kCount));
  EXPECT_NEAR(square, 1.0, 5.0 * std::sqrt(2.0 / kCount));
  EXPECT_NEAR(fourth, 3.0, 5.0 * std::sqrt(96.0 / kCount));
}

TEST(NormalFill, RefusesASliceBeyondTheGlobalColumns) {
  ExecutionContext context;
  const auto reason = NormalFill::reject(
      {.x_RC = context.zeros({1, 4}, DType::f32), .first_column = 3, .global_columns = 6}, context);
  ASSERT_TRUE(reason.has_value());
  EXPECT_EQ(*reason, "columns [3, 7) leave the 6 global columns");
}

TEST(Rounded, F64ReachesBf16InOneRounding) {
  // Just above and below the tie between 1 and 1 + 2^-7, closer to it than f32 can tell.
  EXPECT_EQ(static_cast<float>(rounded<BFloat16>(1 + 0x1p-8 + 0x1p-40)), 1 + 0x1p-7f);
  EXPECT_EQ(static_cast<float>(rounded<BFloat16>(1 + 0x1p-8 - 0x1p-40)), 1.0f);
  EXPECT_EQ(static_cast<float>(rounded<BFloat16>(1 + 0x1p-8)), 1.0f);
  EXPECT_EQ(static_cast<float>(rounded<BFloat16>(-1 - 0x1p-8 - 0x1p-40)), -1 - 0x1p-7f);
  EXPECT_EQ(static_cast<float>(rounded<BFloat16>(1e300)), std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(static_cast<float>(rounded<BFloat16>(std::nan("")))));
}

}  // namespace
}  // namespace filigree::testing
