// The harness itself: what it must catch turns it red.
#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include <limits>

#include "kernels/elementwise/elementwise.hpp"
#include "tests/harness/kernel_gradcheck.hpp"
#include "tests/harness/kernel_parity.hpp"

namespace filigree::testing {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// Compares `values` as f32 rows of three with the truth 1 2 3 / 100 200 300, with plain errors of
// one unit of 1.
void compare(std::vector<float> values) {
  const std::vector<double> truth = {1, 2, 3, 100, 200, 300};
  const Tensor truth_TD = Tensor::from<double>({2, 3}, truth);
  const Tensor plain =
      Tensor::from<float>({2, 3}, std::vector<float>{1 + 0x1p-23f, 2, 3, 100, 200, 300});
  expect_within({"y", Tensor::from<float>({2, 3}, values), DType::f32}, truth_TD,
                row_errors(plain, truth_TD), 1.0, "op 'broken' in f32");
}

TEST(ParityHarness, TakesWhatLiesWithinTheBound) {
  compare({1, 2, 3, 100, 200, 300});
  compare({1, 2, 3 + 0x1p-22f, 100, 200, 300 + 0x1p-15f});  // a unit in the last place of each row
}

TEST(ParityHarness, CatchesAnErrorThatIsSmallOverTheWholeButNotInItsRow) {
  EXPECT_NONFATAL_FAILURE(compare({1, 2, 3 + 0x1p-19f, 100, 200, 300}), "row 0 column 2");
}

TEST(ParityHarness, CatchesUnwrittenAndInfiniteOutputs) {
  EXPECT_NONFATAL_FAILURE(compare({1, 2, 3, 100, kNaN, 300}), "row 1 column 1: got nan");
  EXPECT_NONFATAL_FAILURE(compare({1, std::numeric_limits<float>::infinity(), 3, 100, 200, 300}),
                          "got inf");
}

TEST(ParityHarness, SourcesRepeatTheirValuesInEveryDtype) {
  TensorSource truth(DType::bf16, true), run(DType::bf16, false);
  const Tensor a = truth.input({50}), b = run.input({50});
  EXPECT_EQ(a.dtype(), DType::f64);
  EXPECT_EQ(b.dtype(), DType::bf16);
  const Tensor widened_b = b.to(DType::f64);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(a.data<double>()[i], widened_b.data<double>()[i]);
}

TEST(ParityHarness, OutputsAndWorkspaceStartAsNaN) {
  TensorSource source(DType::bf16, false);
  for (const BFloat16 value : source.output("y", {100}).span<BFloat16>())
    EXPECT_TRUE(std::isnan(static_cast<float>(value)));
  const Tensor workspace = Tensor::empty({100}, DType::f32, source.allocator());
  for (const float value : workspace.span<float>()) EXPECT_TRUE(std::isnan(value));
}

TEST(ParityHarness, UnitsInTheLastPlace) {
  EXPECT_EQ(unit_in_last_place(DType::f32, 1.0), 0x1p-23);
  EXPECT_EQ(unit_in_last_place(DType::f32, 1.99), 0x1p-23);
  EXPECT_EQ(unit_in_last_place(DType::bf16, -4.0), 0x1p-5);
  EXPECT_EQ(unit_in_last_place(DType::f64, 0.5), 0x1p-53);
  EXPECT_EQ(unit_in_last_place(DType::f64, 0.0), 0.0);
}

// y = x^3 by element, with a backward that is right, has the wrong sign in one element, or is off
// by a thousandth.
void check_cubes(double sign_of_first, double factor) {
  expect_kernel_gradients(
      {random_normal({6}, 1)},
      [](const Tensors& in) -> Tensors {
        const Tensor y = in[0].clone();
        for (double& value : y.span<double>()) value = value * value * value;
        return {y};
      },
      [=](const Tensors& in, const Tensors& dy) -> Tensors {
        const Tensor dx = in[0].clone();
        for (int i = 0; i < 6; ++i) {
          const double x = in[0].data<double>()[i];
          dx.data<double>()[i] = factor * 3 * x * x * dy[0].data<double>()[i];
        }
        dx.data<double>()[0] *= sign_of_first;
        return {dx};
      });
}

TEST(GradientHarness, TakesTheGradientAndNothingElse) {
  check_cubes(1.0, 1.0);
  ::testing::TestPartResultArray failures;
  {
    ::testing::ScopedFakeTestPartResultReporter reporter(
        ::testing::ScopedFakeTestPartResultReporter::INTERCEPT_ONLY_CURRENT_THREAD, &failures);
    check_cubes(-1.0, 1.0);
    check_cubes(1.0, 1.001);
  }
  EXPECT_EQ(failures.size(), 6);  // each of three directions, twice
}

}  // namespace
}  // namespace filigree::testing
