#include "runtime/training/sampling.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <vector>

#include "runtime/core/error.hpp"

namespace filigree {
namespace {

constexpr int kDraws = 40000;

std::vector<double> frequencies(const std::vector<float>& logits, const SamplingOptions& options) {
  std::vector<double> counts(logits.size());
  for (int position = 0; position < kDraws; ++position)
    ++counts[static_cast<std::size_t>(sample_token(logits, options, position))];
  for (double& count : counts) count /= kDraws;
  return counts;
}

// Logits whose softmax is exactly these probabilities.
std::vector<float> logits_of(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

void expect_frequencies(const std::vector<double>& actual, const std::vector<double>& expected) {
  for (std::size_t id = 0; id < expected.size(); ++id) {
    const double deviation = std::sqrt(expected[id] * (1 - expected[id]) / kDraws);
    EXPECT_NEAR(actual[id], expected[id], 4.5 * deviation) << "token " << id;
  }
}

TEST(Sampling, FollowsTheSoftmax) {
  const std::vector<double> p = {0.1, 0.4, 0.2, 0.3};
  expect_frequencies(frequencies(logits_of(p), {}), p);
}

TEST(Sampling, TemperatureSharpens) {
  SamplingOptions options;
  options.temperature = 0.5;  // squares the probabilities
  expect_frequencies(frequencies(logits_of({0.1, 0.4, 0.2, 0.3}), options),
                     {0.01 / 0.3, 0.16 / 0.3, 0.04 / 0.3, 0.09 / 0.3});
}

TEST(Sampling, TopKKeepsTheKMostProbable) {
  SamplingOptions options;
  options.top_k = 2;
  expect_frequencies(frequencies(logits_of({0.1, 0.4, 0.2, 0.3}), options),
                     {0, 4.0 / 7, 0, 3.0 / 7});
}

TEST(Sampling, TopPKeepsTheFewestThatReachP) {
  SamplingOptions options;
  options.top_p = 0.65;  // 0.4 + 0.3 reach it, 0.4 alone does not
  expect_frequencies(frequencies(logits_of({0.1, 0.4, 0.2, 0.3}), options),
                     {0, 4.0 / 7, 0, 3.0 / 7});
  options.top_p = 0.05;
  expect_frequencies(frequencies(logits_of({0.1, 0.4, 0.2, 0.3}), options), {0, 1, 0, 0});
}

TEST(Sampling, GreedyTakesTheLargestAndTheFirstOfEquals) {
  SamplingOptions options;
  options.greedy = true;
  const std::array<float, 4> logits = {-1.0f, 3.0f, 3.0f, 2.0f};
  EXPECT_EQ(sample_token(logits, options, 0), 1);
}

TEST(Sampling, TopKOfEqualLogitsKeepsTheLowerIds) {
  SamplingOptions options;
  options.top_k = 2;
  expect_frequencies(frequencies({1.0f, 1.0f, 1.0f}, options), {0.5, 0.5, 0});
}

TEST(Sampling, DependsOnSeedAndPositionOnly) {
  const std::vector<float> logits(100, 0.0f);
  SamplingOptions options;
  const std::int32_t token = sample_token(logits, options, 17);
  sample_token(logits, options, 18);
  EXPECT_EQ(sample_token(logits, options, 17), token);
  int changed = 0;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    options.seed = seed;
    changed += sample_token(logits, options, 17) != token;
  }
  EXPECT_GE(changed, 15);
}

TEST(Sampling, RefusesOptionsOutOfRange) {
  for (const SamplingOptions& bad :
       {SamplingOptions{.temperature = 0.0}, SamplingOptions{.top_k = -1},
        SamplingOptions{.top_p = 0.0}, SamplingOptions{.top_p = 1.5}})
    EXPECT_THROW(check_sampling(bad), UserError);
}

}  // namespace
}  // namespace filigree
