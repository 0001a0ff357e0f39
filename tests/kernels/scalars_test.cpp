#include "kernels/elementwise/scalars.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "tests/harness/kernel_parity.hpp"

namespace filigree::testing {
namespace {

const std::array<double, 3> kNumbers = {7.0, -0.3, 1e-200};

// An f64 quotient is what IEEE 754 says, on every device.
TEST(Divide, IsTheRoundedQuotient) {
  for (const bool has_numerator : {false, true}) {
    const std::array<double, 3> divisors = {3.0, 1e300, -0.7};
    const Build<Divide> build = [&](TensorSource& source) {
      return Divide::Arguments{
          .a = has_numerator ? source.given(Tensor::from<double>({3}, kNumbers)) : Tensor(),
          .b = source.given(Tensor::from<double>({3}, divisors)),
          .y = source.output("y", {3}, DType::f64)};
    };
    const auto y = run_implementation<Divide>(build, "reference", DType::f64, false, 1);
    for (std::size_t i = 0; i < 3; ++i)
      EXPECT_EQ(y[0].tensor.data<double>()[i], (has_numerator ? kNumbers[i] : 1.0) / divisors[i]);
    expect_reference_bits<Divide>(build, {DType::f32});
  }
}

TEST(SquareRoot, IsTheRoundedRoot) {
  const std::array<double, 3> squares = {2.0, 1e-300, 9.0};
  const Build<SquareRoot> build = [&](TensorSource& source) {
    return SquareRoot::Arguments{.x = source.given(Tensor::from<double>({3}, squares)),
                                 .y = source.output("y", {3}, DType::f64)};
  };
  const auto y = run_implementation<SquareRoot>(build, "reference", DType::f64, false, 1);
  for (std::size_t i = 0; i < 3; ++i)
    EXPECT_EQ(y[0].tensor.data<double>()[i], std::sqrt(squares[i]));
  expect_reference_bits<SquareRoot>(build, {DType::f32});
}

}  // namespace
}  // namespace filigree::testing
