#include "kernels/rope/rope.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "tests/harness/kernel_gradcheck.hpp"
#include "tests/harness/kernel_parity.hpp"

namespace filigree::testing {
namespace {

Tensor rotated(const Tensor& x, const std::vector<std::int32_t>& positions, std::int64_t head_dim,
               bool inverse, const std::string& implementation,
               const RotaryFrequencies& frequencies = {}) {
  ExecutionContext context;
  context.forced_kernels["*"] = implementation;
  const Tensor y = context.empty(x.shape(), x.dtype());
  dispatch<Rope>({.x_THK = x,
                  .positions_T = Tensor::from<std::int32_t>(
                      {static_cast<std::int64_t>(positions.size())}, positions),
                  .y_THK = y,
                  .head_dim = head_dim,
                  .frequencies = frequencies,
                  .inverse = inverse},
                 context);
  return y;
}

struct Case {
  std::int64_t tokens, heads, head_dim;
  std::int64_t stride;  // of positions: 1 repeats and packs them, large ones spread them
};
const std::vector<Case> kCases = {{0, 2, 4, 1},    {1, 1, 2, 1},   {5, 3, 6, 1},
                                  {17, 2, 64, 97}, {33, 1, 34, 1}, {300, 4, 64, 1}};

using Scaling = RotaryFrequencies::Scaling;
const RotaryFrequencies kLinear{.scaling = Scaling::linear, .factor = 4.0};
// Some pairs of 64 elements are slowed, some are not and some lie between.
const RotaryFrequencies kLlama3{
    .theta = 500.0, .scaling = Scaling::llama3, .factor = 8.0, .original_length = 64.0};

TEST(Rope, MatchesTheReference) {
  for (const Case& c : kCases)
    for (const auto& [inverse, frequencies] :
         {std::pair(false, RotaryFrequencies{}), std::pair(true, RotaryFrequencies{}),
          std::pair(false, kLinear), std::pair(true, kLlama3)}) {
      SCOPED_TRACE(str("tokens ", c.tokens, " heads ", c.heads, " head_dim ", c.head_dim));
      std::vector<std::int32_t> positions;
      for (std::int64_t t = 0; t < c.tokens; ++t)
        positions.push_back(static_cast<std::int32_t>(t % 100 * c.stride + 3));
      expect_parity<Rope>([&](TensorSource& source) {
        const Shape shape{c.tokens, c.heads * c.head_dim};
        return Rope::Arguments{.x_THK = source.input(shape),
                               .positions_T = source.integers(positions),
                               .y_THK = source.output("y", shape),
                               .head_dim = c.head_dim,
                               .frequencies = frequencies,
                               .inverse = inverse};
      });
    }
}

TEST(Rope, WorksInPlace) {
  const std::vector<std::int32_t> positions = {0, 5, 9};
  expect_parity<Rope>([&](TensorSource& source) {
    const Tensor x = source.updated("x", {3, 2 * 34});
    return Rope::Arguments{
        .x_THK = x, .positions_T = source.integers(positions), .y_THK = x, .head_dim = 34};
  });
}

// theta = 16 and K = 4 give the frequencies 1 and 1/4.
TEST(Rope, MatchesAHandComputedCase) {
  const std::vector<double> x = {1, 2, 3, 4};
  for (const std::string& name : implementation_names<Rope>()) {
    const Tensor y = rotated(Tensor::from<double>({1, 4}, x), {2}, 4, false, name, {.theta = 16.0});
    EXPECT_NEAR(y.data<double>()[0], std::cos(2.0) - 3 * std::sin(2.0), 1e-14) << name;
    EXPECT_NEAR(y.data<double>()[1], 2 * std::cos(0.5) - 4 * std::sin(0.5), 1e-14) << name;
    EXPECT_NEAR(y.data<double>()[2], 3 * std::cos(2.0) + std::sin(2.0), 1e-14) << name;
    EXPECT_NEAR(y.data<double>()[3], 4 * std::cos(0.5) + 2 * std::sin(0.5), 1e-14) << name;
  }
}

// The piecewise form in which Llama 3.1 states it.
TEST(RotaryFrequencies, ThoseOfLlama3SlowWhatTurnsSeldom) {
  constexpr std::int64_t kWidth = 64;
  const RotaryFrequencies& f = kLlama3;
  int kept = 0, slowed = 0, between = 0;
  for (std::int64_t i = 0; i < kWidth / 2; ++i) {
    const double plain = std::pow(f.theta, -2.0 * static_cast<double>(i) / kWidth);
    const double wavelength = 2.0 * std::numbers::pi / plain;
    double expected = plain;
    if (wavelength > f.original_length / f.low_turns) {
      expected = plain / f.factor;
      ++slowed;
    } else if (wavelength >= f.original_length / f.high_turns) {
      const double smooth =
          (f.original_length / wavelength - f.low_turns) / (f.high_turns - f.low_turns);
      expected = (1.0 - smooth) * plain / f.factor + smooth * plain;
      ++between;
    } else {
      ++kept;
    }
    EXPECT_NEAR(f.of(i, kWidth), expected, 1e-15 * expected + 1e-18) << "pair " << i;
    EXPECT_DOUBLE_EQ(kLinear.of(i, kWidth), RotaryFrequencies{}.of(i, kWidth) / 4.0);
  }
  EXPECT_GT(kept, 3);
  EXPECT_GT(slowed, 5);
  EXPECT_GT(between, 3);
}

TEST(Rope, InverseUndoesForward) {
  const Tensor x = random_normal({4, 3 * 8}, 1);
  const std::vector<std::int32_t> positions = {0, 1, 700, 100000};
  for (const std::string& name : implementation_names<Rope>()) {
    const Tensor back = rotated(rotated(x, positions, 8, false, name), positions, 8, true, name);
    for (std::int64_t i = 0; i < x.numel(); ++i)
      EXPECT_NEAR(back.data<double>()[i], x.data<double>()[i], 1e-14) << name << " element " << i;
  }
}

// What attention sees, the inner product of two turned heads, depends on the distance of their
// positions only.
TEST(Rope, InnerProductsDependOnDistancesOnly) {
  const Tensor q = random_normal({1, 16}, 1), k = random_normal({1, 16}, 2);
  const auto score = [&](std::int32_t at_q, std::int32_t at_k) {
    return inner_product(rotated(q, {at_q}, 16, false, "cpu"),
                         rotated(k, {at_k}, 16, false, "cpu"));
  };
  EXPECT_NEAR(score(7, 3), score(1007, 1003), 1e-11);
  EXPECT_GT(std::abs(score(7, 3) - score(7, 4)), 1e-3);
}

TEST(Rope, InverseIsTheGradient) {
  const std::vector<std::int32_t> positions = {3, 0, 8, 1};
  for (const std::string& name : implementation_names<Rope>()) {
    SCOPED_TRACE(name);
    expect_kernel_gradients(
        {random_normal({4, 2 * 6}, 1)},
        [&](const Tensors& in) -> Tensors { return {rotated(in[0], positions, 6, false, name)}; },
        [&](const Tensors&, const Tensors& dy) -> Tensors {
          return {rotated(dy[0], positions, 6, true, name)};
        });
  }
}

TEST(Rope, RefusesAnOddHead) {
  ExecutionContext context;
  const Tensor x = context.zeros({1, 3}, DType::f32);
  const auto reason = Rope::reject(
      {.x_THK = x, .positions_T = context.zeros({1}, DType::i32), .y_THK = x, .head_dim = 3},
      context);
  ASSERT_TRUE(reason.has_value());
  EXPECT_EQ(*reason, "head_dim 3 is not a positive even number");
}

}  // namespace
}  // namespace filigree::testing
