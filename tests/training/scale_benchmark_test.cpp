#include "runtime/training/scale_benchmark.hpp"

#include <gtest/gtest.h>

#include "parallel/run_ranks.hpp"
#include "tests/harness/tiny_model.hpp"

namespace filigree {
namespace {

RunConfig small_run() {
  RunConfig config;
  config.model = testing::tiny_config();  // 4 heads, 2 key/value heads
  config.train.batch = 2;
  return config;
}

std::vector<std::string> names(const RunConfig& config, int ranks) {
  std::vector<std::string> result;
  for (const MeshShape& layout : benchmark_layouts(config, ranks)) result.push_back(layout.name());
  return result;
}

TEST(BenchmarkLayouts, AreThoseThatHeadsAndBatchAllow) {
  using Names = std::vector<std::string>;
  EXPECT_EQ(names(small_run(), 1), (Names{"1"}));
  // dp4 would leave ranks without a sequence, three ranks cannot share four heads.
  EXPECT_EQ(names(small_run(), 4), (Names{"1", "dp2", "tp2", "dp2 x tp2", "tp4"}));
  EXPECT_EQ(names(small_run(), 3), (Names{"1", "dp2", "tp2"}));
}

TEST(MeasureLayout, GivesEveryRankTheSameConsistentNumbers) {
  const RunConfig config = small_run();
  const MeshShape layout = benchmark_layouts(config, 2).back();
  ASSERT_EQ(layout.tensor, 2);
  run_ranks(2, [&](std::shared_ptr<Communicator> world) {
    ScaleOptions options;
    options.steps = 3;
    options.warmup_steps = 1;
    const ScaleResult result = measure_layout(config, layout, world, options);
    EXPECT_GT(result.seconds_per_step, 0.0);
    EXPECT_DOUBLE_EQ(result.tokens_per_second, 2 * 9 / result.seconds_per_step);
    EXPECT_DOUBLE_EQ(result.model_flops_per_second,
                     result.tokens_per_second * 3 * config.model.forward_flops_per_token(9));
    EXPECT_GT(result.communication_seconds, 0.0);
    EXPECT_LT(result.communication_seconds, result.seconds_per_step * 1.5);
    // At least the parameters, gradients and moments of half the model.
    EXPECT_GT(result.peak_bytes, config.model.parameters() / 2 * 4 * 4);
  });
}

TEST(ScaleTable, SpeedUpsReferToTheFirstRow) {
  std::vector<ScaleResult> results(2);
  results[0].tokens_per_second = 1000;
  results[0].seconds_per_step = 0.1;
  results[1].layout.data = 2;
  results[1].tokens_per_second = 1900;
  results[1].model_flops_per_second = 2.5e9;
  results[1].seconds_per_step = 0.05;
  results[1].communication_seconds = 0.01;
  results[1].peak_bytes = 3 << 20;
  const auto json = scale_table_json(results);
  EXPECT_EQ(json.at(1).at("layout"), "dp2");
  EXPECT_DOUBLE_EQ(json.at(1).at("speed_up").get<double>(), 1.9);
  EXPECT_DOUBLE_EQ(json.at(1).at("communication_share").get<double>(), 0.2);
  EXPECT_NE(scale_table_markdown(results).find(
                "| dp2 | 2 | 1.9k | 1.90 | 2.5G | 50.0 ms | 10.0 ms | 20.0 % | 3.0 MiB |"),
            std::string::npos)
      << scale_table_markdown(results);
}

}  // namespace
}  // namespace filigree
