#include "launch/run_config.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "runtime/core/error.hpp"
#include "tests/harness/temporary_folder.hpp"

namespace filigree {
namespace {

constexpr Command kTrain{"train", "Trains.", "filigree train --config configs/lm_7m.cfg", nullptr};

using RunConfigTest = testing::FolderTest;

TEST_F(RunConfigTest, ReadsAFileAndTheCommandLine) {
  const std::string file = write("small.cfg", "[model]\nwidth = 64\n[parallel]\ntensor = 2\n");
  const auto result = parse_run_arguments(
      kTrain, {"--config", file, "--train.steps", "5", "--parallel.tensor", "4"});
  ASSERT_TRUE(result);
  EXPECT_EQ(result->config.model.width, 64);
  EXPECT_EQ(result->config.train.steps, 5);
  EXPECT_EQ(result->config.parallel.tensor, 4);
  EXPECT_EQ(result->config.run, "runs/small");
  EXPECT_EQ(result->given, (std::vector<std::string>{"config", "train.steps", "parallel.tensor"}));
}

TEST_F(RunConfigTest, RunWinsOverTheNameOfTheFile) {
  const auto result =
      parse_run_arguments(kTrain, {"--config", write("small.cfg", ""), "--run", "elsewhere"});
  EXPECT_EQ(result->config.run, "elsewhere");
}

TEST_F(RunConfigTest, TextRoundTripKeepsEveryField) {
  RunConfig config;
  config.model.width = 96;
  config.model.tied_embeddings = false;
  config.model.rope_theta = 1.0 / 3.0;
  config.data.path = "shards";
  config.optimizer.eps = 1e-20;
  config.schedule.kind = "wsd";
  config.train.seed = 0xffffffffffffffffu;
  config.train.kernels = "matmul=reference";
  config.checkpoint.keep = 7;
  config.parallel.tensor = 2;
  const std::string text = run_config_text(config);
  const RunConfig again = run_config_from_text(text, "text");
  EXPECT_EQ(run_config_text(again), text);
  EXPECT_EQ(again.model.width, 96);
  EXPECT_FALSE(again.model.tied_embeddings);
  EXPECT_EQ(again.model.rope_theta, 1.0 / 3.0);
  EXPECT_EQ(again.optimizer.eps, 1e-20);
  EXPECT_EQ(again.schedule.kind, "wsd");
  EXPECT_EQ(again.train.seed, 0xffffffffffffffffu);
  EXPECT_EQ(again.train.kernels, "matmul=reference");
  EXPECT_EQ(again.checkpoint.keep, 7);
  EXPECT_EQ(again.parallel.tensor, 2);
}

TEST_F(RunConfigTest, HashDependsOnTheConfigurationAndNotOnTheDirectory) {
  RunConfig a, b;
  b.run = "elsewhere";
  EXPECT_EQ(run_config_hash(a), run_config_hash(b));
  EXPECT_EQ(run_config_hash(a).size(), 16u);
  b.optimizer.beta2 = 0.9500000000000001;
  EXPECT_NE(run_config_hash(a), run_config_hash(b));
}

TEST_F(RunConfigTest, ResumeStartsFromTheRunsOwnConfiguration) {
  RunConfig saved;
  saved.model.width = 192;
  saved.train.steps = 50;
  write("run/config.cfg", run_config_text(saved));
  const std::string run = (folder_ / "run").string();
  const auto result = parse_run_arguments(kTrain, {"--resume", run, "--train.steps", "80"});
  EXPECT_EQ(result->config.model.width, 192);
  EXPECT_EQ(result->config.train.steps, 80);
  EXPECT_EQ(result->config.run, run);
  EXPECT_EQ(load_run_config(run).train.steps, 50);
  EXPECT_EQ(load_run_config(run).run, run);
}

std::string error_of(const std::vector<std::string>& arguments) {
  try {
    (void)parse_run_arguments(kTrain, arguments);
  } catch (const UserError& error) {
    return error.what();
  }
  ADD_FAILURE() << "no UserError";
  return "";
}

TEST_F(RunConfigTest, ErrorsSayWhatToDo) {
  EXPECT_EQ(error_of({"--config", "configs/none.cfg"}),
            "cannot read the configuration file 'configs/none.cfg'; presets are in configs/");
  EXPECT_EQ(
      error_of({"--resume", "nowhere"}),
      "'nowhere' is not a run directory: there is no nowhere/config.cfg; `filigree train` makes "
      "one under its --run");
  EXPECT_EQ(error_of({"--train.steps", "5"}),
            "give --run DIR for a new run, --config FILE to name it after, or --resume RUN");
  EXPECT_EQ(error_of({"--resume", "a", "--run", "b"}),
            "--resume takes the directory and the configuration of the run; leave out --run and "
            "--config");
  EXPECT_EQ(error_of({"--run", "r", "--train.dtype", "fp32", "--modl.width", "3"}),
            "unknown option --modl.width; did you mean --model.width?\n"
            "--train.dtype fp32: must be one of f64, f32, bf16; did you mean 'f32'?");
}

TEST_F(RunConfigTest, CommandsAddTheirOwnOptions) {
  std::int64_t repeats = 1;
  const auto result =
      parse_run_arguments(kTrain, {"--run", "r", "--repeats", "3"}, [&](Options& options) {
        options.add("repeats", &repeats, {.description = "how often", .min = 1});
      });
  ASSERT_TRUE(result);
  EXPECT_EQ(repeats, 3);
}

// Every preset in configs/ must parse, and describe a model that fits together.
TEST_F(RunConfigTest, PresetsAreValid) {
  int presets = 0;
  for (const auto& entry : std::filesystem::directory_iterator(FILIGREE_SOURCE_DIR "/configs")) {
    if (entry.path().extension() != ".cfg") continue;
    const auto result = parse_run_arguments(kTrain, {"--config", entry.path().string()});
    ASSERT_TRUE(result) << entry.path();
    EXPECT_NO_THROW((void)result->config.model.resolved(result->config.model.vocabulary))
        << entry.path();
    EXPECT_FALSE(result->config.data.path.empty()) << entry.path();
    ++presets;
  }
  EXPECT_GE(presets, 2);
}

TEST_F(RunConfigTest, Gpt2HasTheParametersOfTheSmallGpt2) {
  const auto result =
      parse_run_arguments(kTrain, {"--config", FILIGREE_SOURCE_DIR "/configs/gpt2_124m.cfg"});
  const ModelConfig model = result->config.model.resolved(0);
  EXPECT_NEAR(static_cast<double>(model.parameters()), 124e6, 0.5e6);
}

TEST_F(RunConfigTest, Lm7mHasSevenMillionParameters) {
  const auto result =
      parse_run_arguments(kTrain, {"--config", FILIGREE_SOURCE_DIR "/configs/lm_7m.cfg"});
  const ModelConfig model = result->config.model.resolved(8192);
  EXPECT_EQ(model.layers, 6);
  EXPECT_EQ(model.head_dim, 64);
  EXPECT_NEAR(static_cast<double>(model.parameters()), 7e6, 0.5e6);
}

}  // namespace
}  // namespace filigree
