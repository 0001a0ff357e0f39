#include "kernels/loss/token_losses.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/elementwise/fill.hpp"
#include "tests/harness/kernel_parity.hpp"

namespace filigree::testing {
namespace {

const std::vector<std::int64_t> kSizes = {0, 1, 5, 256, 1000, 8192, 20000};
// Statistics are in the accumulation dtype.
const ParityOptions kWide{.dtypes = {DType::f64, DType::f32}};

TEST(TokenLosses, RescaleSumsMatchesTheReference) {
  for (const std::int64_t size : kSizes) {
    SCOPED_TRACE(size);
    expect_parity<RescaleSums>(
        [&](TensorSource& source) {
          return RescaleSums::Arguments{
              .own_max_T = source.input({size}, [](double z) { return z - 3; }),
              .max_T = source.input({size}),
              .sum_T = source.updated("sum", {size}, [](double z) { return 1 + z * z; })};
        },
        kWide);
  }
}

TEST(TokenLosses, MatchTheReference) {
  for (const std::int64_t size : kSizes)
    for (const bool with_loss : {true, false}) {
      SCOPED_TRACE(str(size, " tokens, loss ", with_loss));
      std::vector<std::int32_t> ids;
      for (std::int64_t t = 0; t < size; ++t) ids.push_back(t % 7 == 3 ? -1 : 4);
      expect_parity<TokenLosses>(
          [&](TensorSource& source) {
            return TokenLosses::Arguments{
                .max_T = source.input({size}, [](double z) { return 5 * z; }),
                .sum_T = source.input({size}, [](double z) { return 1 + z * z; }),
                .target_T = source.input({size}, [](double z) { return z - 9; }),
                .ids_T = source.integers(ids),
                .lse_T = source.output("lse", {size}),
                .log_p_T = source.output("log_p", {size}),
                .loss = with_loss ? source.output("loss", {}) : Tensor()};
          },
          kWide);
    }
}

// Two ranks that hold a part of the vocabulary each: log softmax of (1, 2 | 3) at 1 and 3.
TEST(TokenLosses, GiveTheLogProbabilityOfTheWholeVocabulary) {
  ExecutionContext context;
  const auto tensor = [](std::vector<double> values) {
    return Tensor::from<double>({static_cast<std::int64_t>(values.size())}, values);
  };
  const Tensor own = tensor({2, 2}), all = tensor({3, 3});
  const Tensor sum = tensor({std::exp(-1.0) + 1, std::exp(-1.0) + 1});
  dispatch<RescaleSums>({.own_max_T = own, .max_T = all, .sum_T = sum}, context);
  for (double& value : sum.span<double>()) value += 1;  // what the other rank holds
  const Tensor lse = tensor({0, 0}), log_p = tensor({0, 0}), loss = tensor({0});
  dispatch<TokenLosses>(
      {.max_T = all,
       .sum_T = sum,
       .target_T = tensor({1, 3}),
       .ids_T = Tensor::from<std::int32_t>({2}, std::array<std::int32_t, 2>{0, 2}),
       .lse_T = lse,
       .log_p_T = log_p,
       .loss = loss},
      context);
  const double expected = std::log(std::exp(1.0) + std::exp(2.0) + std::exp(3.0));
  for (const double value : lse.span<double>()) EXPECT_NEAR(value, expected, 1e-14);
  EXPECT_NEAR(log_p.data<double>()[0], 1 - expected, 1e-14);
  EXPECT_NEAR(log_p.data<double>()[1], 3 - expected, 1e-14);
  EXPECT_NEAR(*loss.data<double>(), 2 * expected - 4, 1e-13);
}

TEST(Fill, MatchesTheReference) {
  for (const std::int64_t size : kSizes) {
    SCOPED_TRACE(size);
    expect_parity<Fill>([&](TensorSource& source) {
      return Fill::Arguments{.value = source.input({}), .y = source.output("y", {size})};
    });
  }
}

}  // namespace
}  // namespace filigree::testing
