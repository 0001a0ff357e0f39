#include "kernels/optimizer/update_factors.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>

#include "tests/harness/kernel_parity.hpp"

namespace filigree::testing {
namespace {

struct Given {
  double loss;
  std::array<double, 3> squares;
  double clip_norm;
};

Build<UpdateFactors> build_of(const Given& given) {
  return [=](TensorSource& source) {
    const Tensor updates = Tensor::from<std::int64_t>({1}, std::array<std::int64_t, 1>{6});
    return UpdateFactors::Arguments{
        .loss = source.given(Tensor::from<double>({1}, std::array{given.loss})),
        .squares = source.given(Tensor::from<double>({3}, given.squares)),
        .rate = source.given(Tensor::from<double>({1}, std::array{0.003})),
        .updates = source.given(updates),
        .norms = source.output("norms", {2}, DType::f64),
        .factors = source.output("factors", {2, kUpdateFactors}, DType::f64),
        .clip_norm = given.clip_norm};
  };
}

struct Found {
  Tensor norms, factors;
};

// By every implementation; they agree to the last bits of a power.
std::vector<Found> found(const Given& given) {
  const Build<UpdateFactors> build = build_of(given);
  std::vector<Found> results;
  for (const auto& candidate : accepting_implementations<UpdateFactors>(build, DType::f32)) {
    const auto outputs = run_implementation<UpdateFactors>(build, candidate.name, DType::f32, false,
                                                           1, candidate.device);
    results.push_back({outputs[0].tensor, outputs[1].tensor});
  }
  return results;
}

TEST(UpdateFactors, ClipsEachGroupAndCorrectsForTheUpdatesSoFar) {
  for (const auto& [clip_norm, scales] :
       {std::pair{1.0, std::array{0.25, 1.0}}, {0.0, std::array{1.0, 1.0}}})
    for (const Found& result : found({2.5, {16.0, 0.25, 9.0}, clip_norm})) {
      EXPECT_EQ(result.norms.data<double>()[0], 4.0);
      EXPECT_EQ(result.norms.data<double>()[1], 0.5);
      for (std::size_t i = 0; i < 2; ++i) {
        const double* factors = result.factors.data<double>() + i * kUpdateFactors;
        EXPECT_EQ(factors[kRate], 0.003);
        EXPECT_EQ(factors[kGradientScale], scales[i]);
        EXPECT_NEAR(factors[kCorrection1], 1 - std::pow(0.9, 7), 1e-15);
        EXPECT_NEAR(factors[kCorrection2], 1 - std::pow(0.95, 7), 1e-15);
      }
    }
}

TEST(UpdateFactors, UpdatesNothingWhenAnythingIsNotFinite) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  for (const double bad : {kInfinity, kNaN})
    for (int where = 0; where < 4; ++where) {
      Given given{2.5, {16.0, 0.25, 9.0}, 1.0};
      (where == 3 ? given.loss : given.squares[static_cast<std::size_t>(where)]) = bad;
      for (const Found& result : found(given)) {
        EXPECT_TRUE(std::isnan(result.norms.data<double>()[0])) << bad << " at " << where;
        EXPECT_TRUE(std::isnan(result.norms.data<double>()[1])) << bad << " at " << where;
        for (int i = 0; i < 2; ++i)
          EXPECT_TRUE(
              std::isnan(result.factors.data<double>()[i * kUpdateFactors + kGradientScale]))
              << bad << " at " << where;
      }
    }
}

TEST(UpdateFactors, CountsUpdatesThatAreMade) {
  for (const double loss : {1.0, std::numeric_limits<double>::infinity()}) {
    TensorSource source(DType::f32, false);
    const UpdateFactors::Arguments a = build_of({loss, {1.0, 1.0, 1.0}, 1.0})(source);
    ExecutionContext context;
    dispatch<UpdateFactors>(a, context);
    EXPECT_EQ(*a.updates.data<std::int64_t>(), std::isfinite(loss) ? 7 : 6);
  }
}

}  // namespace
}  // namespace filigree::testing
