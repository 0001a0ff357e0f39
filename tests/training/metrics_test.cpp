#include "runtime/training/metrics.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <fstream>
#include <limits>

#include "runtime/core/error.hpp"
#include "tests/harness/no_warning.hpp"
#include "tests/harness/temporary_folder.hpp"

namespace filigree {
namespace {

using Json = nlohmann::json;
using testing::no_warning;

std::vector<Json> rows(const std::filesystem::path& file) {
  std::vector<Json> result;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) result.push_back(Json::parse(line));
  return result;
}

StepReport report(std::int64_t step) {
  StepReport result;
  result.step = step;
  result.loss = 4.0 / static_cast<double>(step + 2);
  result.tokens = 100 * step;
  return result;
}

TEST(MetricsFile, WritesOneObjectPerLineAndKeepsEveryBit) {
  const testing::TemporaryFolder folder;
  const auto file = folder.path() / "metrics.jsonl";
  MetricsFile metrics = MetricsFile::create(file, "abc", no_warning);
  metrics.write(report(1));
  metrics.write(ValidationReport{1, 2.5, std::exp(2.5), 1.25, 99, 0.5});
  const auto all = rows(file);
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0], (Json{{"kind", "run"}, {"schema", kMetricsSchema}, {"config_hash", "abc"}}));
  EXPECT_EQ(all[1].at("kind"), "step");
  EXPECT_EQ(all[1].at("loss").get<double>(), 4.0 / 3.0);
  EXPECT_EQ(all[1].at("tokens"), 100);
  EXPECT_EQ(all[2].at("kind"), "validation");
  EXPECT_EQ(all[2].at("perplexity").get<double>(), std::exp(2.5));
}

TEST(MetricsFile, WritesNullForWhatIsNotFinite) {
  const testing::TemporaryFolder folder;
  const auto file = folder.path() / "metrics.jsonl";
  StepReport bad = report(1);
  bad.loss = std::numeric_limits<double>::quiet_NaN();
  bad.skipped = true;
  MetricsFile::create(file, "abc", no_warning).write(bad);
  EXPECT_TRUE(rows(file)[1].at("loss").is_null());
  EXPECT_EQ(rows(file)[1].at("skipped"), true);
}

TEST(MetricsFile, ResumeCutsLaterStepsAndATornLine) {
  const testing::TemporaryFolder folder;
  const auto file = folder.path() / "metrics.jsonl";
  {
    MetricsFile metrics = MetricsFile::create(file, "abc", no_warning);
    for (std::int64_t step = 1; step <= 7; ++step) metrics.write(report(step));
  }
  std::ofstream(file, std::ios::app) << R"({"kind":"step","step":8,"lo)";
  MetricsFile metrics = MetricsFile::resume(file, 5, no_warning);
  metrics.write(report(6));
  const auto all = rows(file);
  ASSERT_EQ(all.size(), 7u);
  for (std::int64_t step = 1; step <= 6; ++step)
    EXPECT_EQ(all[static_cast<std::size_t>(step)].at("step"), step);
}

TEST(MetricsFile, ResumeCutsFromALineWithoutANumberedStep) {
  const testing::TemporaryFolder folder;
  const auto file = folder.path() / "metrics.jsonl";
  MetricsFile::create(file, "abc", no_warning).write(report(1));
  std::ofstream(file, std::ios::app) << R"({"kind":"step","step":"two"})"
                                     << "\n";
  MetricsFile::resume(file, 5, no_warning).write(report(2));
  ASSERT_EQ(rows(file).size(), 3u);
  EXPECT_EQ(rows(file)[2].at("step"), 2);
}

// Takes so many bytes more, of the last write a part.
class FullDisk final : public FileSystem {
 public:
  std::int64_t left = 1 << 20;
  ssize_t write(int descriptor, const void* data, std::size_t bytes, std::int64_t offset) override {
    if (left == 0 && bytes > 0) {
      errno = ENOSPC;
      return -1;
    }
    const auto taken = std::min(static_cast<std::int64_t>(bytes), left);
    left -= taken;
    return FileSystem::write(descriptor, data, static_cast<std::size_t>(taken), offset);
  }
};

TEST(MetricsFile, AFullDiskCostsLinesAndNotTheRun) {
  const testing::TemporaryFolder folder;
  const auto file = folder.path() / "metrics.jsonl";
  FullDisk disk;
  std::vector<std::string> warnings;
  MetricsFile metrics = MetricsFile::create(
      file, "abc", [&](const std::string& text) { warnings.push_back(text); }, disk);
  metrics.write(report(1));
  disk.left = 30;  // a part of a line
  metrics.write(report(2));
  EXPECT_EQ(rows(file).size(), 2u) << "a part of a line was left";
  metrics.write(report(3));
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("metrics.jsonl"), std::string::npos) << warnings[0];
  EXPECT_NE(warnings[0].find("No space left"), std::string::npos) << warnings[0];
  disk.left = 1 << 20;
  metrics.write(report(4));
  metrics.write(report(5));
  ASSERT_EQ(warnings.size(), 2u);
  EXPECT_NE(warnings[1].find("lines lost: 2"), std::string::npos) << warnings[1];
  const auto all = rows(file);
  ASSERT_EQ(all.size(), 4u);
  EXPECT_EQ(all[2].at("step"), 4);
  EXPECT_EQ(all[3].at("step"), 5);
}

TEST(MetricsFile, ErrorsNameTheFile) {
  const testing::TemporaryFolder folder;
  try {
    MetricsFile::create(folder.path() / "missing" / "metrics.jsonl", "abc", no_warning);
    ADD_FAILURE() << "wrote into a folder that does not exist";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("missing/metrics.jsonl"), std::string::npos)
        << error.what();
  }
}

TEST(ConsoleLine, SaysWhatTheUserWatches) {
  StepReport step = report(120);
  step.loss = 3.45123;
  step.learning_rate = 2.97e-3;
  step.gradient_norm = 0.8124;
  step.timing.tokens_per_second = 45300;
  step.timing.model_flops_per_second = 1.98e12;
  step.timing.peak_bytes = 312 << 20;
  EXPECT_EQ(console_line(step, 1000, 192.4),
            "step 120/1000 | loss 3.4512 | lr 2.97e-03 | grad 0.812 | 45.3k tok/s | 2.0 TFLOP/s | "
            "312.0 MiB | "
            "eta 0:03:12");
}

TEST(LayerMetrics, AddUpAndAreWrittenPerLayer) {
  std::vector<LayerStatistics> layers(2), more(2);
  layers[0].pairs = 10, layers[0].allowed_pairs = 100;
  more[0].pairs = 20, more[0].allowed_pairs = 100;
  layers[1].pairs = 50, layers[1].allowed_pairs = 200;
  more[1].caught = 3, more[1].caught_rows = 4;
  more[1].caught_mean_pooled = 2, more[1].caught_random = 1;
  add_layers(layers, more);
  EXPECT_EQ(sparsity_text(layers),
            " | density 0.200 | recall 0.750 (mean-pooled 0.500, random 0.250)");
  EXPECT_EQ(sparsity_text({}), "");

  StepReport step = report(3);
  EXPECT_FALSE(to_json(step).contains("layers"));
  step.layers = layers;
  const auto rows = to_json(step).at("layers");
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_DOUBLE_EQ(rows[0].at("density"), 0.15);
  EXPECT_DOUBLE_EQ(rows[1].at("density"), 0.25);
  EXPECT_DOUBLE_EQ(rows[1].at("recall"), 0.75);
  EXPECT_DOUBLE_EQ(rows[1].at("recall_mean_pooled"), 0.5);
  EXPECT_DOUBLE_EQ(rows[1].at("recall_random"), 0.25);
}

TEST(ConsoleLine, SaysWhatShareOfTheDenseWorkWasDone) {
  StepReport step = report(1);
  step.executed_flops = 30;
  step.dense_flops = 40;
  EXPECT_NE(console_line(step, 10, 0.0).find(" | 75.0% of dense work | "), std::string::npos);
}

}  // namespace
}  // namespace filigree
