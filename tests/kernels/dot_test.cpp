#include <gtest/gtest.h>

#include <cmath>

#include "kernels/elementwise/elementwise.hpp"
#include "tests/harness/kernel_parity.hpp"

namespace filigree::testing {
namespace {

// Sums are f64 whatever the dtype, so the reference is no truth here: that is the sum in long
// double. Rounding errors of n additions walk randomly, which bounds both implementations.
TEST(Dot, IsAsExactAsAnF64Sum) {
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16})
    for (const std::int64_t size : {0, 1, 7, 33, 16383, 16384, 16385, 70000}) {
      SCOPED_TRACE(str(name_of(dtype), " size ", size));
      const Build<Dot> build = [&](TensorSource& source) {
        return Dot::Arguments{.a = source.input({size}),
                              .b = source.input({size}),
                              .sum = source.output("sum", {1}, DType::f64)};
      };
      TensorSource source(dtype, true);
      const Dot::Arguments inputs = build(source);
      long double truth = 0, magnitude = 0;
      for (std::int64_t i = 0; i < size; ++i) {
        const long double product =
            static_cast<long double>(inputs.a.data<double>()[i]) * inputs.b.data<double>()[i];
        truth += product;
        magnitude += std::abs(product);
      }
      const double allowed =
          static_cast<double>(magnitude) * 0x1p-53 * (2 * std::sqrt(static_cast<double>(size)) + 1);
      for (const Implementation<Dot>& candidate : accepting_implementations<Dot>(build, dtype)) {
        const auto run = [&](int number) {
          return run_implementation<Dot>(build, candidate.name, dtype, false, number,
                                         candidate.device)
              .front();
        };
        const auto one = run(1), two = run(2);
        EXPECT_LE(std::abs(static_cast<double>(one.tensor.data<double>()[0] - truth)), allowed)
            << candidate.name;
        expect_equal_bits(one, two, std::string(candidate.name));
      }
    }
}

// Products of f32 that would overflow, and sums that f32 would swallow.
TEST(Dot, AddsInDoublePrecision) {
  const Tensor a = Tensor::from<float>({3}, std::vector<float>{1e30f, 1.0f, -1e30f});
  const Tensor b = Tensor::from<float>({3}, std::vector<float>{1e-30f, 0x1p-30f, 1e-30f});
  const double cancelled = 0x1p-30;
  for (const std::string& name : implementation_names<Dot>()) {
    ExecutionContext context;
    context.forced_kernels["*"] = name;
    const Tensor sum = context.empty({1}, DType::f64);
    dispatch<Dot>({.a = a, .b = b, .sum = sum}, context);
    EXPECT_NEAR(*sum.data<double>(), cancelled, 1e-15) << name;
    dispatch<Dot>({.a = a, .b = a, .sum = sum}, context);
    EXPECT_NEAR(*sum.data<double>(), 2e60, 1e54) << name;
  }
}

}  // namespace
}  // namespace filigree::testing
