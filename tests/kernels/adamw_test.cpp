#include "kernels/optimizer/adamw.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>

#include "kernels/elementwise/floating.hpp"
#include "kernels/optimizer/update_factors.hpp"
#include "tests/harness/kernel_parity.hpp"

namespace filigree::testing {
namespace {

const std::vector<std::int64_t> kSizes = {0, 1, 7, 33, 16383, 16384, 16385, 40000};

double positive(double z) { return z * z; }

// Of update number `step`, with AdamW's own betas.
Tensor factors(double rate, double scale, int step) {
  return Tensor::from<double>(
      {kUpdateFactors}, std::array{rate, scale, 1 - std::pow(0.9, step), 1 - std::pow(0.95, step)});
}

TEST(AdamW, MatchesTheReference) {
  for (const std::int64_t size : kSizes)
    for (const bool has_compute : {false, true}) {
      SCOPED_TRACE(str("size ", size, " compute copy ", has_compute));
      const Build<AdamW> build = [&](TensorSource& source) {
        AdamW::Arguments a;
        a.w_N = source.updated("w", {size});
        a.g_N = source.input({size});
        a.m_N = source.updated("m", {size}, [](double z) { return 0.3 * z; });
        a.v_N = source.updated("v", {size}, positive);
        a.factors = source.given(factors(0.01, 0.7, 3));
        a.decay = 0.1;
        if (has_compute) a.compute_N = source.unchecked({size}, DType::bf16);
        return a;
      };
      expect_parity<AdamW>(build, {.dtypes = {DType::f64, DType::f32}});
    }
}

// Several steps against the formula of Loshchilov and Hutter 2019, algorithm 2, one element at a
// time.
TEST(AdamW, FollowsTheFormulaForSeveralSteps) {
  constexpr int kElements = 5;
  for (const std::string& name : implementation_names<AdamW>()) {
    ExecutionContext context;
    context.forced_kernels["*"] = name;
    AdamW::Arguments a;
    a.w_N = random_normal({kElements}, 1);
    a.m_N = context.zeros({kElements}, DType::f64);
    a.v_N = context.zeros({kElements}, DType::f64);
    a.compute_N = context.empty({kElements}, DType::bf16);
    a.beta1 = 0.9, a.beta2 = 0.95, a.eps = 1e-8, a.decay = 0.1;
    std::vector<double> w(a.w_N.data<double>(), a.w_N.data<double>() + kElements);
    std::vector<double> m(kElements, 0.0), v(kElements, 0.0);
    for (int step = 1; step <= 4; ++step) {
      a.factors = factors(0.05, 0.5, step);
      a.g_N = random_normal({kElements}, 10 + step);
      dispatch<AdamW>(a, context);
      for (int n = 0; n < kElements; ++n) {
        const double g = 0.5 * a.g_N.data<double>()[n];
        m[n] = 0.9 * m[n] + 0.1 * g;
        v[n] = 0.95 * v[n] + 0.05 * g * g;
        const double m_hat = m[n] / (1 - std::pow(0.9, step)),
                     v_hat = v[n] / (1 - std::pow(0.95, step));
        w[n] = w[n] * (1 - 0.05 * 0.1) - 0.05 * m_hat / (std::sqrt(v_hat) + 1e-8);
        EXPECT_NEAR(a.w_N.data<double>()[n], w[n], 1e-14) << name << " step " << step;
        EXPECT_EQ(a.compute_N.data<BFloat16>()[n].bits,
                  rounded<BFloat16>(a.w_N.data<double>()[n]).bits)
            << name << " step " << step;
      }
    }
  }
}

TEST(AdamW, ComputeCopyOfFloatMastersIsTheirRounding) {
  for (const std::string& name : implementation_names<AdamW>()) {
    ExecutionContext context;
    context.forced_kernels["*"] = name;
    AdamW::Arguments a;
    a.w_N = random_normal({100}, 1).to(DType::f32);
    a.g_N = random_normal({100}, 2).to(DType::f32);
    a.m_N = context.zeros({100}, DType::f32);
    a.v_N = context.zeros({100}, DType::f32);
    a.compute_N = context.empty({100}, DType::bf16);
    a.factors = factors(0.01, 1.0, 1);
    const Tensor before = a.w_N.clone();
    dispatch<AdamW>(a, context);
    for (int n = 0; n < 100; ++n) {
      const float w = a.w_N.data<float>()[n];
      EXPECT_EQ(a.compute_N.data<BFloat16>()[n].bits, BFloat16(w).bits) << name;
      // The first step moves by the rate, against the gradient.
      const float direction = a.g_N.data<float>()[n] > 0 ? -1.0f : 1.0f;
      EXPECT_NEAR(w - before.data<float>()[n], 0.01f * direction, 1e-6f) << name;
    }
  }
}

TEST(AdamW, ChangesNothingWhereTheScaleIsNotANumber) {
  for (const std::int64_t size : {1, 7, 40000}) {
    const Build<AdamW> build = [&](TensorSource& source) {
      AdamW::Arguments a;
      a.w_N = source.updated("w", {size});
      a.g_N = source.input({size});
      a.m_N = source.updated("m", {size});
      a.v_N = source.updated("v", {size}, positive);
      a.compute_N = source.updated("compute", {size}, {}, DType::bf16);
      a.factors = source.given(factors(0.01, std::numeric_limits<double>::quiet_NaN(), 1));
      return a;
    };
    TensorSource source(DType::f32, false);
    const AdamW::Arguments untouched = build(source);
    for (const auto& candidate : accepting_implementations<AdamW>(build, DType::f32)) {
      const auto got =
          run_implementation<AdamW>(build, candidate.name, DType::f32, false, 1, candidate.device);
      const auto before = source.outputs();
      for (std::size_t i = 0; i < got.size(); ++i)
        expect_equal_bits(got[i], before[i], std::string(candidate.name));
    }
  }
}

TEST(AdamW, RefusesBf16Masters) {
  ExecutionContext context;
  const Tensor x = context.zeros({1}, DType::bf16);
  const auto reason = AdamW::reject({.w_N = x, .g_N = x, .m_N = x, .v_N = x}, context);
  ASSERT_TRUE(reason.has_value());
  EXPECT_EQ(*reason, "w is bf16; master weights are f32 or f64");
}

// Sums are f64 whatever the dtype, so the reference is no truth here: that is the sum in long
// double. Rounding errors of n additions walk randomly, which bounds both implementations.
TEST(SumSquares, IsAsExactAsAnF64Sum) {
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16})
    for (const std::int64_t size : {0, 1, 7, 33, 32767, 32768, 32769, 70000})
      for (const bool accumulate : {false, true}) {
        SCOPED_TRACE(str(name_of(dtype), " size ", size, " accumulate ", accumulate));
        const Build<SumSquares> build = [&](TensorSource& source) {
          return SumSquares::Arguments{.x_N = source.input({size}),
                                       .sum = accumulate
                                                  ? source.updated("sum", {1}, positive, DType::f64)
                                                  : source.output("sum", {1}, DType::f64),
                                       .accumulate = accumulate};
        };
        TensorSource source(dtype, true);
        const SumSquares::Arguments inputs = build(source);
        long double truth = accumulate ? inputs.sum.data<double>()[0] : 0.0;
        for (const double x : inputs.x_N.span<double>()) truth += static_cast<long double>(x) * x;
        const double allowed =
            static_cast<double>(truth) * 0x1p-53 * (2 * std::sqrt(static_cast<double>(size)) + 1);
        for (const Implementation<SumSquares>& candidate :
             accepting_implementations<SumSquares>(build, dtype)) {
          const auto run = [&](int number) {
            return run_implementation<SumSquares>(build, candidate.name, dtype, false, number,
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

double sum_squares(const Tensor& x, const std::string& name) {
  ExecutionContext context;
  context.forced_kernels["*"] = name;
  const Tensor sum = context.empty({1}, DType::f64);
  dispatch<SumSquares>({.x_N = x, .sum = sum}, context);
  return sum.data<double>()[0];
}

TEST(SumSquares, IsExactOnIntegersAndShowsWhatIsNotFinite) {
  for (const std::string& name : implementation_names<SumSquares>()) {
    const Tensor x = Tensor::empty({40000}, DType::f32);
    for (std::int64_t n = 0; n < 40000; ++n) x.data<float>()[n] = static_cast<float>(n % 100);
    EXPECT_EQ(sum_squares(x, name), 400.0 * 328350.0) << name;  // sum of n^2 below 100 is 328350
    x.data<float>()[39999] = 1e30f;  // its square is beyond f32, not beyond f64
    EXPECT_TRUE(std::isfinite(sum_squares(x, name))) << name;
    x.data<float>()[39999] = std::numeric_limits<float>::infinity();
    EXPECT_TRUE(std::isinf(sum_squares(x, name))) << name;
    x.data<float>()[7] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_TRUE(std::isnan(sum_squares(x, name))) << name;
  }
}

}  // namespace
}  // namespace filigree::testing
