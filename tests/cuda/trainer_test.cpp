// Whole runs on a GPU, emulated or not: as on the CPU, and taken up again on the other device.
#include "runtime/training/trainer.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "checkpoint/difference.hpp"
#include "checkpoint/folders.hpp"
#include "runtime/training/memory_report.hpp"
#include "tests/cuda/fresh_gpu.hpp"
#include "tests/training/tiny_shards.hpp"

namespace filigree {
namespace {

enum class On { cpu, gpu };

class TrainerOnGpu : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    shards_ = new testing::TemporaryFolder;
    testing::make_tiny_shards(shards_->path() / "shards");
  }
  static void TearDownTestSuite() {
    delete shards_;
    shards_ = nullptr;
  }

  RunConfig config(const std::string& name, std::int64_t steps) const {
    RunConfig config = testing::tiny_run(shards_->path() / "shards", folder_.path() / name);
    config.model.width = 32;
    config.model.head_dim = 16;
    config.train.steps = steps;
    config.train.batch = 4;
    return config;
  }

  // The run's losses by step, all that metrics.jsonl has.
  std::vector<double> train_on(On device, RunConfig config, bool resume = false) {
    config.train.device = device == On::gpu ? "cuda" : "cpu";
    const std::shared_ptr<Communicator> world = self_communicator("world");
    TrainingJob job;
    job.config = resolve(config, 1, TokenDataset::open(config.data.path, "train").vocabulary());
    job.config_text =
        str("[train]\nsteps = ", config.train.steps, "\ndevice = ", config.train.device, "\n");
    job.config_hash = "0123456789abcdef";
    job.resume = resume;
    if (device == On::gpu) job.context = testing::fresh_gpu(3);
    job.console_level = LogLevel::error;
    EXPECT_EQ(train(job, world), TrainingOutcome::finished);
    most_ = counting_allocator(job.context).peak_bytes();
    std::vector<double> losses;
    std::ifstream in(std::filesystem::path(config.run) / "metrics.jsonl");
    for (std::string line; std::getline(in, line);)
      if (const auto row = nlohmann::json::parse(line); row.at("kind") == "step") {
        losses.push_back(row.at("loss"));
        last_peak_ = row.at("timing").at("peak_bytes");
      }
    return losses;
  }

  void expect_same_bits(const std::string& name, const std::string& other,
                        std::int64_t step) const {
    const auto reader = [&](const std::string& run) {
      return CheckpointReader(folder_.path() / run / "checkpoints" / step_folder_name(step));
    };
    for (const TensorDifference& tensor : compare_checkpoints(reader(name), reader(other)))
      EXPECT_TRUE(tensor.same()) << tensor.name << " of step " << step << ": " << tensor.form
                                 << tensor.differing << " values differ";
  }

  static void expect_near(const std::vector<double>& losses, const std::vector<double>& expected) {
    ASSERT_EQ(losses.size(), expected.size());
    // Rounding, as in training_step_test.cpp.
    for (std::size_t i = 0; i < losses.size(); ++i)
      EXPECT_NEAR(losses[i], expected[i], 1e-4 * expected[i]) << "step " << i + 1;
  }

  testing::TemporaryFolder folder_;
  std::int64_t most_ = 0, last_peak_ = 0;
  static testing::TemporaryFolder* shards_;
};
testing::TemporaryFolder* TrainerOnGpu::shards_ = nullptr;

std::string text_of(const std::filesystem::path& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return std::move(text).str();
}

TEST_F(TrainerOnGpu, LearnsAsOnTheCpuAndReportsItsMemory) {
  const std::vector<double> expected = train_on(On::cpu, config("cpu", 10));
  expect_near(train_on(On::gpu, config("gpu", 10)), expected);
  EXPECT_LT(expected.back(), expected.front());
  EXPECT_GT(most_, 0);
  EXPECT_EQ(last_peak_, most_) << "the peak is that of the GPU's allocator";
  const std::string log = text_of(folder_.path() / "gpu" / "logs" / "rank_00000.log");
  EXPECT_NE(log.find("a GPU per rank"), std::string::npos) << log;
  EXPECT_NE(log.find("most GPU memory of a rank in use at once"), std::string::npos) << log;
}

TEST_F(TrainerOnGpu, ARunGoesOnOnTheOtherDevice) {
  const auto run = [&](const std::string& name, std::int64_t steps) {
    RunConfig result = config(name, steps);
    result.schedule.kind = "constant";  // does not depend on the number of steps
    return result;
  };
  const std::vector<double> expected = train_on(On::cpu, run("whole", 10));
  for (const On first : {On::cpu, On::gpu}) {
    const On second = first == On::cpu ? On::gpu : On::cpu;
    const std::string name = first == On::cpu ? "cpu_then_gpu" : "gpu_then_cpu";
    SCOPED_TRACE(name);
    train_on(first, run(name, 5));
    expect_near(train_on(second, run(name, 10), true), expected);
  }
}

TEST_F(TrainerOnGpu, ARunThatIsTakenUpAgainHasTheBitsOfOneThatWentThrough) {
  const auto run = [&](const std::string& name, std::int64_t steps, bool background) {
    RunConfig result = config(name, steps);
    result.schedule.kind = "constant";  // does not depend on the number of steps
    result.checkpoint.background = background;
    result.checkpoint.every = 2;  // saves go beside steps that change what they save
    return result;
  };
  const std::vector<double> expected = train_on(On::gpu, run("whole", 10, true));
  for (const bool background : {false, true}) {
    const std::string name = background ? "background" : "foreground";
    SCOPED_TRACE(name);
    train_on(On::gpu, run(name, 5, background));
    // The save of step 5 is gone: what goes on is what was saved while step 5 was done.
    std::filesystem::remove_all(folder_.path() / name / "checkpoints" / "step_00000005");
    EXPECT_EQ(train_on(On::gpu, run(name, 10, background), true), expected);
    for (const std::int64_t step : {8, 10}) expect_same_bits(name, "whole", step);
  }
}

}  // namespace
}  // namespace filigree
