#include "kernels/loss/cross_entropy.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/harness/kernel_gradcheck.hpp"
#include "tests/harness/kernel_parity.hpp"

namespace filigree::testing {
namespace {

struct Case {
  std::int64_t rows, columns, first_column;
};
// Columns around the 256 that one partial sum covers; the last is shared out to threads.
const std::vector<Case> kCases = {{0, 5, 0},   {1, 1, 0},    {3, 0, 4},   {5, 7, 3},    {4, 255, 0},
                                  {4, 256, 0}, {4, 257, 90}, {3, 600, 1}, {70, 1000, 0}};

// In and outside of the columns, and every fifth ignored.
std::vector<std::int32_t> targets_of(const Case& c) {
  std::vector<std::int32_t> targets;
  for (std::int64_t t = 0; t < c.rows; ++t)
    targets.push_back(
        t % 5 == 2 ? -100 : static_cast<std::int32_t>(t * 31 % (c.first_column + c.columns + 3)));
  return targets;
}

TEST(CrossEntropy, StatisticsMatchTheReference) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(str(c.rows, " rows of ", c.columns));
    expect_parity<CrossEntropyStatistics>([&](TensorSource& source) {
      const DType accumulation = source.accumulation();
      return CrossEntropyStatistics::Arguments{
          .logits_TV = source.input({c.rows, c.columns}, [](double z) { return 5 * z; }),
          .targets_T = source.integers(targets_of(c)),
          .max_T = source.output("max", {c.rows}, accumulation),
          .sum_T = source.output("sum", {c.rows}, accumulation),
          .target_T = source.output("target", {c.rows}, accumulation),
          .first_column = c.first_column};
    });
  }
}

TEST(CrossEntropy, GradientMatchesTheReference) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(str(c.rows, " rows of ", c.columns));
    expect_parity<CrossEntropyGradient>([&](TensorSource& source) {
      const DType accumulation = source.accumulation();
      return CrossEntropyGradient::Arguments{
          .logits_TV =
              source.updated("logits", {c.rows, c.columns}, [](double z) { return 5 * z; }),
          .targets_T = source.integers(targets_of(c)),
          .lse_T = source.input(
              {c.rows}, [](double z) { return 18 + z; }, accumulation),
          .scale_T = source.input({c.rows}, {}, accumulation),
          .first_column = c.first_column};
    });
  }
}

struct Statistics {
  Tensor max, sum, target;
};

Statistics statistics(const Tensor& logits, const Tensor& targets, std::int64_t first_column,
                      const std::string& name) {
  ExecutionContext context;
  context.forced_kernels["*"] = name;
  const Shape rows{logits.dim(0)};
  const DType accumulation = accumulation_dtype(logits.dtype());
  Statistics s{context.empty(rows, accumulation), context.empty(rows, accumulation),
               context.empty(rows, accumulation)};
  dispatch<CrossEntropyStatistics>({.logits_TV = logits,
                                    .targets_T = targets,
                                    .max_T = s.max,
                                    .sum_T = s.sum,
                                    .target_T = s.target,
                                    .first_column = first_column},
                                   context);
  return s;
}

// Columns [begin, end) of x, contiguous.
Tensor columns(const Tensor& x, std::int64_t begin, std::int64_t end) {
  const Tensor part = Tensor::empty({x.dim(0), end - begin}, DType::f64);
  for (std::int64_t t = 0; t < x.dim(0); ++t)
    std::copy_n(x.data<double>() + t * x.dim(1) + begin, end - begin,
                part.data<double>() + t * (end - begin));
  return part;
}

// log-sum-exp minus target, of statistics combined over the parts of a split vocabulary.
std::vector<double> losses(const std::vector<Statistics>& parts) {
  std::vector<double> result;
  for (std::int64_t t = 0; t < parts[0].max.numel(); ++t) {
    double max = -std::numeric_limits<double>::infinity(), sum = 0, target = 0;
    for (const Statistics& part : parts) max = std::max(max, part.max.data<double>()[t]);
    for (const Statistics& part : parts) {
      sum += part.sum.data<double>()[t] * std::exp(part.max.data<double>()[t] - max);
      target += part.target.data<double>()[t];
    }
    result.push_back(max + std::log(sum) - target);
  }
  return result;
}

TEST(CrossEntropy, SplitVocabularyGivesTheWholeLoss) {
  const Tensor logits = random_normal({6, 10}, 1);
  const std::vector<std::int32_t> ids = {0, 9, 3, 4, 5, 6};
  const Tensor targets = Tensor::from<std::int32_t>({6}, ids);
  for (const std::string& name : implementation_names<CrossEntropyStatistics>()) {
    const auto whole = losses({statistics(logits, targets, 0, name)});
    const auto split = losses({statistics(columns(logits, 0, 4), targets, 0, name),
                               statistics(columns(logits, 4, 10), targets, 4, name),
                               statistics(columns(logits, 10, 10), targets, 10, name)});
    for (int t = 0; t < 6; ++t) {
      double sum = 0;  // the textbook formula
      for (int v = 0; v < 10; ++v) sum += std::exp(logits.data<double>()[t * 10 + v]);
      EXPECT_NEAR(whole[t], std::log(sum) - logits.data<double>()[t * 10 + ids[t]], 1e-14) << name;
      EXPECT_NEAR(split[t], whole[t], 1e-14) << name;
    }
  }
}

TEST(CrossEntropy, IgnoredTargets) {
  const std::vector<std::int32_t> ids = {-1, 1};
  const Tensor targets = Tensor::from<std::int32_t>({2}, ids);
  for (const std::string& name : implementation_names<CrossEntropyGradient>()) {
    const Tensor logits = random_normal({2, 3}, 1);
    const Statistics s = statistics(logits, targets, 0, name);
    EXPECT_EQ(s.target.data<double>()[0], 0.0) << name;
    EXPECT_GE(s.sum.data<double>()[0], 1.0) << name;
    ExecutionContext context;
    context.forced_kernels["*"] = name;
    const Tensor scale = Tensor::empty({2}, DType::f64);
    scale.data<double>()[0] =
        std::numeric_limits<double>::infinity();  // 1 / 0 targets, as a mean has
    scale.data<double>()[1] = 1;
    dispatch<CrossEntropyGradient>(
        {.logits_TV = logits, .targets_T = targets, .lse_T = s.max, .scale_T = scale}, context);
    for (int v = 0; v < 3; ++v) EXPECT_EQ(logits.data<double>()[v], 0.0) << name;
    EXPECT_NE(logits.data<double>()[3], 0.0) << name;
  }
}

TEST(CrossEntropy, ANotANumberReachesTheSum) {
  for (const std::string& name : implementation_names<CrossEntropyStatistics>()) {
    std::vector<float> x(300, 1.0f);
    x[270] = std::numeric_limits<float>::quiet_NaN();
    const std::vector<std::int32_t> ids = {0};
    const Statistics s =
        statistics(Tensor::from<float>({1, 300}, x), Tensor::from<std::int32_t>({1}, ids), 0, name);
    EXPECT_TRUE(std::isnan(s.sum.data<float>()[0])) << name;
  }
}

// By the logits of a vocabulary split in two, with an ignored row.
TEST(CrossEntropy, GradientIsTheGradient) {
  const std::vector<std::int32_t> ids = {0, 4, 6, -1, 2};
  const Tensor targets = Tensor::from<std::int32_t>({5}, ids);
  for (const std::string& name : implementation_names<CrossEntropyGradient>()) {
    SCOPED_TRACE(name);
    expect_kernel_gradients(
        {random_normal({5, 7}, 1)},
        [&](const Tensors& in) -> Tensors {
          const auto rows = losses({statistics(in[0], targets, 0, name)});
          const Tensor loss = Tensor::from<double>({5}, rows);
          loss.data<double>()[3] = 0;  // ignored
          return {loss};
        },
        [&](const Tensors& in, const Tensors& cotangents) -> Tensors {
          const Statistics s = statistics(in[0], targets, 0, name);
          const Tensor lse = s.max.clone();
          for (int t = 0; t < 5; ++t) lse.data<double>()[t] += std::log(s.sum.data<double>()[t]);
          const Tensor gradient = Tensor::empty({5, 7}, DType::f64);
          for (const auto& [begin, end] : {std::pair<std::int64_t, std::int64_t>{0, 3}, {3, 7}}) {
            const Tensor part = columns(in[0], begin, end);
            ExecutionContext context;
            context.forced_kernels["*"] = name;
            dispatch<CrossEntropyGradient>({.logits_TV = part,
                                            .targets_T = targets,
                                            .lse_T = lse,
                                            .scale_T = cotangents[0],
                                            .first_column = begin},
                                           context);
            for (std::int64_t t = 0; t < 5; ++t)
              std::copy_n(part.data<double>() + t * (end - begin), end - begin,
                          gradient.data<double>() + t * 7 + begin);
          }
          return {gradient};
        });
  }
}

}  // namespace
}  // namespace filigree::testing
