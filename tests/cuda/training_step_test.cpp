// A tiny model trains on a GPU, emulated or not, as it does on the CPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/dispatch.hpp"
#include "runtime/training/generation.hpp"
#include "tests/cuda/compared_run.hpp"
#include "tests/cuda/fresh_gpu.hpp"
#include "tests/cuda/trained_run.hpp"

namespace filigree {
namespace {

using testing::compared_run;
using testing::distance;
using testing::train;
using testing::train_on_gpu;
using testing::TrainedRun;
using testing::wide_run;

// Differences come from rounding alone: `tolerance` is relative to the loss.
void expect_agreement(const RunConfig& config, double tolerance,
                      const ExecutionContext& context = testing::fresh_gpu(1)) {
  const TrainedRun cpu = train(config, {});
  const TrainedRun gpu = train(config, context);
  for (std::size_t i = 0; i < cpu.steps.size(); ++i) {
    EXPECT_NEAR(gpu.steps[i].loss, cpu.steps[i].loss, tolerance * cpu.steps[i].loss)
        << "step " << i + 1;
    EXPECT_NEAR(gpu.steps[i].gradient_norm, cpu.steps[i].gradient_norm,
                20 * tolerance * cpu.steps[i].gradient_norm)
        << "step " << i + 1;
    EXPECT_FALSE(gpu.steps[i].skipped);
  }
  // Adam turns the smallest gradients, which are rounding alone, into steps of full size.
  EXPECT_LT(distance(gpu.parameters, cpu.parameters),
            (config.train.dtype == "bf16" ? 0.15 : 0.02) * distance(cpu.parameters, cpu.before));
  const auto flops = [](const TrainedRun& run, WorkPart part) {
    return static_cast<double>(run.work[part].work.flops);
  };
  for (const WorkPart part :
       {WorkPart::other, WorkPart::attention, WorkPart::gate, WorkPart::teacher})
    EXPECT_EQ(flops(gpu, part), flops(cpu, part)) << "part " << static_cast<int>(part);
  for (std::size_t layer = 0; layer < cpu.steps.back().layers.size(); ++layer) {
    EXPECT_EQ(gpu.steps.back().layers[layer].pairs, cpu.steps.back().layers[layer].pairs);
    EXPECT_NEAR(gpu.steps.back().layers[layer].entropy, cpu.steps.back().layers[layer].entropy,
                20 * tolerance * cpu.steps.back().layers[layer].entropy);
  }
}

TEST(TrainingStep, HasTheCudaKernels) {
  const auto names = kernel_table().names();
  const auto& attention = names.at("attention_backward");
  EXPECT_NE(std::find(attention.begin(), attention.end(), "cuda"), attention.end());
}

TEST(TrainingStep, DenseAgreesWithTheCpuInF32) {
  expect_agreement(compared_run("dense", "f32"), 1e-4);
}

TEST(TrainingStep, AdaptiveAgreesWithTheCpuInF32) {
  expect_agreement(compared_run("adaptive", "f32"), 1e-4);
}

TEST(TrainingStep, DenseAgreesWithTheCpuInBf16) {
  expect_agreement(compared_run("dense", "bf16"), 3e-3);
}

TEST(TrainingStep, AdaptiveAgreesWithTheCpuInBf16) {
  expect_agreement(compared_run("adaptive", "bf16"), 3e-3);
}

void expect_wide_heads_agree(const std::string& kernel) {
  for (const std::string mechanism : {"dense", "adaptive"}) {
    SCOPED_TRACE(mechanism);
    const RunConfig config = wide_run(mechanism);
    ExecutionContext context = testing::fresh_gpu(1);
    context.forced_kernels = {{"attention_forward", kernel}, {"attention_backward", kernel}};
    expect_agreement(config, 3e-3, context);
  }
}

TEST(TrainingStep, WideHeadsAgreeWithTheCpu) { expect_wide_heads_agree("cuda"); }

TEST(TrainingStep, WideHeadsOfHopperAgreeWithTheCpu) {
  const std::vector<std::string> built = cuda_architectures();
  if (cuda_devices().front().major != 9 ||
      std::find(built.begin(), built.end(), "90a") == built.end())
    GTEST_SKIP() << "no GPU of compute capability 9.0, or no code for it";
  expect_wide_heads_agree("hopper");
}

TEST(TrainingStep, EveryMechanismAgreesWithTheCpu) {
  for (const std::string mechanism : {"seer", "sliding_window", "deepspeed_fixed"}) {
    SCOPED_TRACE(mechanism);
    RunConfig config = compared_run(mechanism, "f32");
    config.model.sparsity.window = mechanism == "sliding_window" ? 20 : 0;
    config.model.sparsity.local_blocks = 2;
    config.model.sigma_reparam = mechanism == "seer" ? "none" : "attention";
    config.model.qkv_bias = true;  // in the product, and behind the factor
    config.train.steps = 2;
    expect_agreement(config, 1e-4);
  }
  RunConfig config = compared_run("adaptive", "f32");
  config.model.sparsity.head_gate = true;
  config.model.sparsity.dense_heads = 0.25;
  config.model.sparsity.warmup_steps = config.model.sparsity.ramp_steps = 0;
  config.train.steps = 2;
  expect_agreement(config, 1e-4);
}

// The prompt, then token by token through the caches of keys and of the gate.
TEST(Generation, PicksTheTokensOfTheCpu) {
  for (const std::string mechanism : {"dense", "adaptive", "deepspeed_fixed"}) {
    RunConfig config = compared_run(mechanism, "f32");
    config.model.sparsity.warmup_steps = config.model.sparsity.ramp_steps = 0;
    config.model.sparsity.head_gate = mechanism == "adaptive";
    const auto tokens = [&](const ExecutionContext& context, const SamplingOptions& sampling) {
      const Mesh mesh(self_communicator("world"), {});
      TrainingEngine engine(config, mesh, context);
      std::vector<std::int32_t> prompt(37);
      for (std::size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<std::int32_t>(i % 11);
      return generate(engine.model(), prompt, 30, -1, sampling, engine.context(), {});
    };
    for (const SamplingOptions& sampling :
         {SamplingOptions{.greedy = true}, SamplingOptions{.top_k = 20, .top_p = 0.9}})
      EXPECT_EQ(tokens(testing::fresh_gpu(), sampling), tokens({}, sampling)) << mechanism;
  }
}

// In the emulator blocks, threads and streams run in another order with every seed.
TEST(TrainingStep, TheOrderOfTheGpuChangesNothing) {
  RunConfig config = compared_run("adaptive", "f32");
  config.train.steps = 3;
  const TrainedRun one = train_on_gpu(config, 1), other = train_on_gpu(config, 2);
  for (std::size_t i = 0; i < one.steps.size(); ++i)
    EXPECT_EQ(one.steps[i].loss, other.steps[i].loss);
  const auto a = one.parameters.span<float>(), b = other.parameters.span<float>();
  EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin()));
}

}  // namespace
}  // namespace filigree
