#include "runtime/training/quality_benchmark.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "runtime/training/quality_report.hpp"
#include "tests/training/tiny_shards.hpp"

namespace filigree {
namespace {

using testing::TemporaryFolder;

std::string marks(const std::vector<std::int32_t>& tokens, const std::vector<std::int32_t>& targets,
                  std::int64_t distance) {
  std::string text;
  for (const bool far : far_repeats(tokens, targets, distance)) text += far ? 'x' : '.';
  return text;
}

TEST(FarRepeats, AreThoseLastSeenBeyondTheDistance) {
  //                                        0  1  2  3  4  5  6  7  8  9
  const std::vector<std::int32_t> stream = {7, 8, 1, 2, 7, 8, 7, 8, 9, 7, 8};
  const std::vector<std::int32_t> tokens(stream.begin(), stream.end() - 1);
  const std::vector<std::int32_t> targets(stream.begin() + 1, stream.end());
  // (7, 8) is at 0, 4, 6 and 9.
  EXPECT_EQ(marks(tokens, targets, 1), "....x.x..x");
  EXPECT_EQ(marks(tokens, targets, 2), "....x....x");
  EXPECT_EQ(marks(tokens, targets, 3), "....x.....");
  EXPECT_EQ(marks(tokens, targets, 4), "..........") << "0 is far from 9, but 6 is near";
  // The same target after another token is no repeat.
  EXPECT_EQ(marks({1, 5, 5, 2}, {9, 5, 5, 9}, 1), "....");
}

ModelConfig model_of(std::int64_t sequence) {
  ModelConfig model;
  model.vocabulary = 31;
  model.layers = 1;
  model.width = 16;
  model.heads = 2;
  model.sequence = sequence;
  model.sparsity.key_block = 16;
  model.sparsity.query_group = 16;
  model.sparsity.sinks = 4;
  return model.resolved(0);
}

TEST(WindowDensity, CountsPairsByHand) {
  // Rows of 5 tokens, window 2: 1 2 2 2 2 pairs; with one sink: 1 2 3 3 3.
  EXPECT_DOUBLE_EQ(window_density(5, 2, 0), 9.0 / 15.0);
  EXPECT_DOUBLE_EQ(window_density(5, 2, 1), 12.0 / 15.0);
  EXPECT_DOUBLE_EQ(window_density(5, 9, 3), 1.0);
}

TEST(FixedDensity, CountsPairsOfUnevenBlocksByHand) {
  ModelConfig model = model_of(40);  // blocks of 16, 16 and 8 tokens
  model.sparsity.local_blocks = 1;   // every block is a window and, as its last, global
  EXPECT_DOUBLE_EQ(fixed_density(model), 1.0);
  model.sparsity.local_blocks = 2;  // {0, 1}, {2}; 1 is global, so only (2, 0) is left out
  EXPECT_DOUBLE_EQ(fixed_density(model), 1.0 - 8.0 * 16.0 / (40.0 * 41.0 / 2.0));
}

TEST(MatchedModel, NoOtherSettingIsNearerToTheDensity) {
  const ModelConfig model = model_of(512);
  for (const double density : {0.125, 0.25, 0.5}) {
    const ModelConfig window =
        matched_model(model, parse_quality_variant("sliding_window"), density);
    const auto miss = [&](std::int64_t tokens) {
      return std::abs(window_density(512, tokens, 4) - density);
    };
    EXPECT_LT(miss(window.sparsity.window), 0.002);
    EXPECT_LE(miss(window.sparsity.window), miss(window.sparsity.window - 1));
    EXPECT_LE(miss(window.sparsity.window), miss(window.sparsity.window + 1));

    const ModelConfig fixed =
        matched_model(model, parse_quality_variant("deepspeed_fixed"), density);
    EXPECT_EQ(fixed.sparsity.sinks, 0);
    for (std::int64_t local = 1; local <= 32; ++local) {
      ModelConfig other = fixed;
      other.sparsity.local_blocks = local;
      EXPECT_LE(std::abs(fixed_density(fixed) - density), std::abs(fixed_density(other) - density));
    }
  }
  const ModelConfig gate = matched_model(model, parse_quality_variant("adaptive:distill"), 0.25);
  EXPECT_EQ(gate.sparsity.learn, "distill");
  EXPECT_EQ(gate.sparsity.density, 0.25);
  EXPECT_EQ(gate.sparsity.dense_heads, 0.0);
}

TEST(QualityVariant, RefusesWhatThereIsNot) {
  for (const char* text : {"", "windows", "adaptive:", "adaptive:sometimes", "dense:both"})
    EXPECT_THROW(parse_quality_variant(text), UserError) << text;
  EXPECT_EQ(parse_quality_variant("adaptive").learn, "both");
}

TEST(WithSteps, ScalesWarmUpAndRamp) {
  RunConfig config;
  config.train.steps = 400;
  config.schedule.warmup_steps = 40;
  config.model.sparsity.warmup_steps = 60;
  config.model.sparsity.ramp_steps = 20;
  const RunConfig run = with_steps(config, 100);
  EXPECT_EQ(run.train.steps, 100);
  EXPECT_EQ(run.schedule.warmup_steps, 10);
  EXPECT_EQ(run.model.sparsity.warmup_steps, 15);
  EXPECT_EQ(run.model.sparsity.ramp_steps, 5);
}

class ShortBenchmark : public ::testing::Test {
 protected:
  RunConfig config_for(const QualityTask& task, std::int64_t steps) {
    RunConfig config = testing::tiny_run({}, {});
    config.model.sequence = 128;
    config.model.dropout = 0.0;
    config.model.vocabulary =
        task.is_text() ? 0 : recall_shape(128, task.recall_values).vocabulary();
    config.model.sparsity.key_block = config.model.sparsity.query_group = 16;
    config.model.sparsity.sinks = 4;
    config.model = config.model.resolved(task.is_text() ? task.train->vocabulary() : 0);
    config.train.steps = steps;
    config.train.batch = 2;
    config.schedule.warmup_steps = 1;
    return config;
  }
  QualityResult measure(const std::string& variant, const QualityTask& task, std::int64_t steps = 3,
                        double density = 0.5) {
    return measure_quality(config_for(task, steps), parse_quality_variant(variant), density, task,
                           {});
  }
};

TEST_F(ShortBenchmark, OnTextWritesWhatItMeasured) {
  const TemporaryFolder folder;
  testing::make_tiny_shards(folder.path());
  QualityTask task;
  task.train = TokenDataset::open(folder.path(), "train");
  task.validation = TokenDataset::open(folder.path(), "validation");
  std::vector<QualityResult> results;
  for (const char* name : {"dense", "sliding_window", "deepspeed_fixed", "adaptive:both"})
    results.push_back(measure(name, task));

  EXPECT_DOUBLE_EQ(results[0].density, 1.0);
  EXPECT_DOUBLE_EQ(
      results[1].density,
      window_density(128, matched_model(model_of(128), results[1].variant, 0.5).sparsity.window,
                     4));
  for (std::size_t i = 1; i < results.size(); ++i) {
    EXPECT_NEAR(results[i].density, 0.5, 0.07) << results[i].variant.name;
    EXPECT_LT(results[i].flops_per_token, results[i].dense_flops_per_token);
    EXPECT_EQ(results[i].score.targets, results[0].score.targets);
    EXPECT_NE(results[i].score.loss, results[0].score.loss);
    EXPECT_NEAR(results[i].score.loss, results[0].score.loss, 0.05);
  }
  EXPECT_NEAR(results[0].score.last_quarter_loss, results[0].score.loss, 0.5);

  const auto json = quality_table_json(results, true);
  EXPECT_DOUBLE_EQ(json.at("runs").at(3).at("perplexity").get<double>(),
                   std::exp(results[3].score.loss));
  const std::string table = quality_table_markdown(results, true);
  EXPECT_NE(table.find("| adaptive:both | 50.0 % | mean of 1 | "), std::string::npos) << table;
  EXPECT_NE(quality_plot_svg(results, true).find(">deepspeed_fixed</text>"), std::string::npos);
}

TEST_F(ShortBenchmark, SparserRunsOfEqualWorkAreLonger) {
  const QualityTask task{.recall_values = 8, .recall_samples = 8};
  RunConfig config = config_for(task, 20);
  config.model.sparsity.warmup_steps = 4;
  config.model.sparsity.ramp_steps = 4;
  config.model.sparsity.density = 0.25;
  const QualityVariant variant = parse_quality_variant("adaptive:end_to_end");
  const std::int64_t steps = steps_of_equal_work(config, variant, 0.25, task, {});
  EXPECT_GT(steps, 20);
  const QualityResult sparse = measure_quality(with_steps(config, steps), variant, 0.25, task, {});
  const QualityResult dense =
      measure_quality(config, parse_quality_variant("dense"), 1.0, task, {});
  EXPECT_NEAR(sparse.total_flops / dense.total_flops, 1.0, 0.05);
  // Warm-ups as long as the run: as many steps, but for what the gate costs.
  config.model.sparsity.warmup_steps = config.model.sparsity.ramp_steps = 20;
  EXPECT_LE(steps_of_equal_work(config, variant, 0.25, task, {}), 20);
}

TEST_F(ShortBenchmark, OnRecallBeginsAtChance) {
  const QualityTask task{.recall_values = 8, .recall_samples = 64};
  const QualityResult result = measure("adaptive:distill", task);
  EXPECT_EQ(result.score.targets, 64 * 48);
  EXPECT_NEAR(result.score.accuracy, 1.0 / 8, 0.05);
  EXPECT_NEAR(result.score.loss, std::log(recall_shape(128, 8).vocabulary()), 0.8);
  EXPECT_NE(quality_table_markdown({result}, false).find("| accuracy |"), std::string::npos);
}

TEST(QualityMeans, AreOverSeedsOfTheSameVariantAndDensity) {
  std::vector<QualityResult> results(4);
  for (QualityResult& result : results) result.variant = parse_quality_variant("sliding_window");
  results[0].score.loss = 1.0;
  results[1].score.loss = 4.0;
  results[2].score.loss = 7.0;
  results[3].score.loss = 100.0;
  results[3].target_density = 0.5;
  const auto means = means_over_seeds(results);
  ASSERT_EQ(means.size(), 2u);
  EXPECT_EQ(means[0].seeds, 3);
  EXPECT_DOUBLE_EQ(means[0].loss, 4.0);
  EXPECT_DOUBLE_EQ(means[1].loss, 100.0);
}

}  // namespace
}  // namespace filigree
