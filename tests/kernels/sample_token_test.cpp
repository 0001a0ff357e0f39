#include "kernels/sampling/sample_token.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/sampling/weights.hpp"
#include "tests/harness/kernel_parity.hpp"

namespace filigree::testing {
namespace {

constexpr int kDraws = 40000;

std::int32_t sampled(const Tensor& logits, const SamplingOptions& options, std::int64_t position) {
  ExecutionContext context;
  const Tensor token = Tensor::empty({1}, DType::i32);
  dispatch<SampleToken>({logits, options, position, token}, context);
  return token.data<std::int32_t>()[0];
}

Tensor tensor_of(const std::vector<float>& logits) {
  return Tensor::from<float>({static_cast<std::int64_t>(logits.size())}, logits);
}

std::vector<double> frequencies(const std::vector<float>& logits, const SamplingOptions& options) {
  std::vector<double> counts(logits.size());
  for (int position = 0; position < kDraws; ++position)
    ++counts[static_cast<std::size_t>(sampled(tensor_of(logits), options, position))];
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

TEST(SampleToken, FollowsTheSoftmax) {
  const std::vector<double> p = {0.1, 0.4, 0.2, 0.3};
  expect_frequencies(frequencies(logits_of(p), {}), p);
}

TEST(SampleToken, TemperatureSharpens) {
  SamplingOptions options;
  options.temperature = 0.5;  // squares the probabilities
  expect_frequencies(frequencies(logits_of({0.1, 0.4, 0.2, 0.3}), options),
                     {0.01 / 0.3, 0.16 / 0.3, 0.04 / 0.3, 0.09 / 0.3});
}

TEST(SampleToken, TopKKeepsTheKMostProbable) {
  SamplingOptions options;
  options.top_k = 2;
  expect_frequencies(frequencies(logits_of({0.1, 0.4, 0.2, 0.3}), options),
                     {0, 4.0 / 7, 0, 3.0 / 7});
}

TEST(SampleToken, TopPKeepsTheFewestThatReachP) {
  SamplingOptions options;
  options.top_p = 0.65;  // 0.4 + 0.3 reach it, 0.4 alone does not
  expect_frequencies(frequencies(logits_of({0.1, 0.4, 0.2, 0.3}), options),
                     {0, 4.0 / 7, 0, 3.0 / 7});
  options.top_p = 0.05;
  expect_frequencies(frequencies(logits_of({0.1, 0.4, 0.2, 0.3}), options), {0, 1, 0, 0});
}

TEST(SampleToken, GreedyTakesTheLargestAndTheFirstOfEquals) {
  SamplingOptions options;
  options.greedy = true;
  const Tensor logits = tensor_of({-1.0f, 3.0f, 3.0f, 2.0f});
  EXPECT_EQ(sampled(logits, options, 0), 1);
}

TEST(SampleToken, TopKOfEqualLogitsKeepsTheLowerIds) {
  SamplingOptions options;
  options.top_k = 2;
  expect_frequencies(frequencies({1.0f, 1.0f, 1.0f}, options), {0.5, 0.5, 0});
}

TEST(SampleToken, DependsOnSeedAndPositionOnly) {
  const Tensor logits = tensor_of(std::vector<float>(100, 0.0f));
  SamplingOptions options;
  const std::int32_t token = sampled(logits, options, 17);
  sampled(logits, options, 18);
  EXPECT_EQ(sampled(logits, options, 17), token);
  int changed = 0;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    options.seed = seed;
    changed += sampled(logits, options, 17) != token;
  }
  EXPECT_GE(changed, 15);
}

TEST(SampleToken, WeightsAreExponentialsRoundedDown) {
  EXPECT_EQ(sampling::weight(0.0), sampling::Mass{1} << sampling::kWeightBits);
  for (int i = 0; i < 20000; ++i) {
    const double x = -28.5 * i / 20000;
    const long double exact = std::ldexp(std::exp(static_cast<long double>(x)), 40);
    const auto weight = static_cast<long double>(sampling::weight(x));
    EXPECT_LE(weight, exact * (1 + 0x1.0p-51L)) << x;
    EXPECT_GT(weight, exact * (1 - 0x1.0p-51L) - 1) << x;
  }
  EXPECT_EQ(sampling::weight(-std::numeric_limits<double>::infinity()), 0u);
}

TEST(SampleToken, RefusesLogitsThatAreNotFinite) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  for (const bool greedy : {false, true}) {
    const SamplingOptions options{.greedy = greedy};
    EXPECT_EQ(sampled(tensor_of({1, kNan, 2}), options, 0), -1);
    EXPECT_EQ(sampled(tensor_of({1, -kNan, 2}), options, 0), -1);
    EXPECT_EQ(sampled(tensor_of({1, kInfinity, 2}), options, 0), -1);
    EXPECT_EQ(sampled(tensor_of({-kInfinity, -kInfinity}), options, 0), -1);
    EXPECT_EQ(sampled(tensor_of({-kInfinity, 3}), options, 0), 1);
  }
}

// Every implementation picks the token of the reference.
void expect_same_tokens(const std::function<Tensor(TensorSource&)>& logits,
                        const std::vector<SamplingOptions>& choices) {
  for (std::size_t i = 0; i < choices.size(); ++i) {
    SCOPED_TRACE(str("options ", i));
    expect_reference_bits<SampleToken>(
        [&](TensorSource& source) {
          return SampleToken::Arguments{logits(source), choices[i],
                                        static_cast<std::int64_t>(100 + i),
                                        source.output("token", {1}, DType::i32)};
        },
        {DType::f32});
  }
}

const std::vector<SamplingOptions> kChoices = {
    {.greedy = true},
    {},
    {.temperature = 0.4},
    {.temperature = 2.0, .seed = 5},
    {.top_k = 1},
    {.top_k = 7, .seed = 6},
    {.top_k = 100000, .seed = 7},
    {.top_p = 0.05},
    {.top_p = 0.9, .seed = 8},
    {.temperature = 1.5, .top_k = 40, .top_p = 0.7, .seed = 9}};

TEST(SampleToken, EveryImplementationPicksTheTokenOfTheReference) {
  const std::vector<SamplingOptions> few = {
      {.greedy = true}, {.temperature = 1.5, .top_k = 20, .top_p = 0.7, .seed = 9}};
  for (const std::int64_t vocabulary : {1, 33, 512, 1003}) {
    SCOPED_TRACE(vocabulary);
    expect_same_tokens(
        [&](TensorSource& source) {
          return source.input({vocabulary}, [](double z) { return 3 * z; });
        },
        vocabulary == 1003 ? kChoices : few);
  }
}

TEST(SampleToken, EveryImplementationOrdersEqualLogitsById) {
  // Six values for all, two zeros among them, and logits that are all the same.
  expect_same_tokens(
      [](TensorSource& source) {
        return source.input({517}, [](double z) { return std::clamp(std::trunc(z), -2.0, 2.0); });
      },
      kChoices);
  expect_same_tokens(
      [](TensorSource& source) { return source.input({65}, [](double) { return -7.0; }); },
      {{.greedy = true}, {.seed = 3}, {.top_k = 7, .seed = 6}, {.top_p = 0.3, .seed = 8}});
}

TEST(SampleToken, EveryImplementationKnowsImpossibleTokensAndBrokenLogits) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<SamplingOptions> choices = {{.greedy = true}, {}, {.top_p = 0.5}};
  for (const std::vector<double>& values :
       {std::vector<double>{-kInfinity, 1, -kInfinity, 2, 1e30, -1e30},
        {1, kNan, 2},
        {-kNan, 1},
        {kInfinity, 1},
        {-kInfinity, -kInfinity},
        {-0.0, 0.0, -0.0}})
    expect_same_tokens(
        [&](TensorSource& source) {
          return source.input_of(
              Tensor::from<double>({static_cast<std::int64_t>(values.size())}, values));
        },
        choices);
}

}  // namespace
}  // namespace filigree::testing
