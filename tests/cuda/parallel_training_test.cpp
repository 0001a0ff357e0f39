// A tiny model trains on four ranks with GPUs, emulated or not, data and tensor parallel through
// NCCL, as it does on one rank of the CPU.
#include <gtest/gtest.h>

#include <map>

#include "tests/cuda/compared_run.hpp"
#include "tests/cuda/gpu_ranks.hpp"

namespace filigree {
namespace {

using testing::compared_run;
using testing::distance;
using testing::SyntheticSource;

constexpr MeshShape kGrid = {.data = 2, .tensor = 2};

// What one rank has at the end, its parameters on the host.
struct TrainedRank {
  std::vector<StepResult> steps;
  Tensor before, parameters;
};

TrainedRank train(TrainingEngine& engine, const RunConfig& config) {
  SyntheticSource source(config, batch_share(config.train.batch, engine.mesh()));
  TrainedRank run;
  run.before = engine.context().download(engine.parameters().master()).clone();
  for (std::int64_t step = 1; step <= config.train.steps; ++step)
    run.steps.push_back(engine.step(source, step, step == config.train.steps));
  run.parameters = engine.context().download(engine.parameters().master());
  return run;
}

// `visit`, on the threads of the ranks, gets what each of them made of the run.
void train_on_gpus(
    const RunConfig& config, std::uint64_t seed,
    const std::function<void(const TrainingEngine& engine, const TrainedRank& run)>& visit) {
  testing::fresh_gpus(kGrid.world(), seed);
  const auto body = [&](const testing::GpuRank& rank) {
    const Mesh mesh(rank.world, kGrid);
    TrainingEngine engine(config, mesh, rank.context);
    const TrainedRank run = train(engine, config);
    visit(engine, run);
  };
  testing::run_gpu_ranks(kGrid.world(), body, std::chrono::seconds(60));
}

// This rank's part of `whole`, a flat buffer of the model on one rank.
Tensor own_part(const ParameterStore& mine, const ParameterStore& all, const Tensor& whole) {
  const Tensor part = Tensor::zeros({mine.master().numel()}, DType::f32);
  for (std::size_t i = 0; i < mine.size(); ++i) {
    const Tensor local = mine.slice(part, i);
    testing::for_each_owned(mine[i], all.slice(whole, i).to(DType::f64),
                            [&](std::int64_t element, double value) {
                              local.data<float>()[element] = static_cast<float>(value);
                            });
  }
  return part;
}

// As on one GPU: differences come from rounding alone, `tolerance` is relative to the loss.
void expect_agreement(const RunConfig& config, double tolerance) {
  const Mesh alone(self_communicator("world"), {});
  TrainingEngine single(config, alone, {});
  const TrainedRank cpu = train(single, config);
  train_on_gpus(config, 1, [&](const TrainingEngine& engine, const TrainedRank& gpu) {
    SCOPED_TRACE(engine.mesh().describe());
    for (std::size_t i = 0; i < cpu.steps.size(); ++i) {
      EXPECT_NEAR(gpu.steps[i].loss, cpu.steps[i].loss, tolerance * cpu.steps[i].loss)
          << "step " << i + 1;
      EXPECT_NEAR(gpu.steps[i].gradient_norm, cpu.steps[i].gradient_norm,
                  20 * tolerance * cpu.steps[i].gradient_norm)
          << "step " << i + 1;
      EXPECT_FALSE(gpu.steps[i].skipped);
    }
    for (std::size_t layer = 0; layer < cpu.steps.back().layers.size(); ++layer)
      EXPECT_EQ(gpu.steps.back().layers[layer].pairs, cpu.steps.back().layers[layer].pairs);
    const auto part = [&](const Tensor& whole) {
      return own_part(engine.parameters(), single.parameters(), whole);
    };
    const Tensor after = part(cpu.parameters), before = part(cpu.before);
    // The gains of sigmaReparam begin as spectral norms, which ranks sum in another order.
    const double start = config.model.sigma_reparam == "none" ? 0.0 : 1e-7;
    EXPECT_LE(distance(gpu.before, before),
              start * distance(before, Tensor::zeros(before.shape(), before.dtype())));
    // Adam turns the smallest gradients, which are rounding alone, into steps of full size.
    EXPECT_LT(distance(gpu.parameters, after),
              (config.train.dtype == "bf16" ? 0.15 : 0.02) * distance(after, before));
  });
}

TEST(ParallelTraining, DenseAgreesWithTheCpuInF32) {
  expect_agreement(compared_run("dense", "f32"), 1e-4);
}

TEST(ParallelTraining, AdaptiveAgreesWithTheCpuInF32) {
  expect_agreement(compared_run("adaptive", "f32"), 1e-4);
}

TEST(ParallelTraining, DenseAgreesWithTheCpuInBf16) {
  expect_agreement(compared_run("dense", "bf16"), 3e-3);
}

TEST(ParallelTraining, AdaptiveAgreesWithTheCpuInBf16) {
  expect_agreement(compared_run("adaptive", "bf16"), 3e-3);
}

TEST(ParallelTraining, WideHeadsAgreeWithTheCpu) {
  expect_agreement(testing::wide_run("adaptive"), 3e-3);
}

// Every collective of the other variants of the model: sums of spectral norms, gates of heads.
TEST(ParallelTraining, EveryVariantAgreesWithTheCpu) {
  RunConfig config = compared_run("adaptive", "f32");
  config.model.sparsity.head_gate = true;
  config.model.sparsity.dense_heads = 0.25;
  config.model.sparsity.warmup_steps = config.model.sparsity.ramp_steps = 0;
  config.model.sigma_reparam = "attention";
  config.model.recompute = "block";
  config.train.check_lists = 1;
  config.train.steps = 2;
  expect_agreement(config, 1e-4);
}

// In the emulator blocks, threads and streams run in another order with every seed, and ranks meet
// at other times.
TEST(ParallelTraining, EveryRunHasTheSameBits) {
  RunConfig config = compared_run("adaptive", "bf16");
  config.train.steps = 3;
  std::vector<std::vector<TrainedRank>> runs;
  for (const std::uint64_t seed : {1, 2, 3}) {
    runs.emplace_back(static_cast<std::size_t>(kGrid.world()));
    train_on_gpus(config, seed, [&](const TrainingEngine& engine, const TrainedRank& run) {
      runs.back()[static_cast<std::size_t>(engine.mesh().world().rank())] = run;
    });
  }
  for (const auto& run : runs)
    for (std::size_t rank = 0; rank < run.size(); ++rank) {
      for (std::size_t i = 0; i < run[rank].steps.size(); ++i) {
        EXPECT_EQ(run[rank].steps[i].loss, runs[0][0].steps[i].loss) << "rank " << rank;
        EXPECT_EQ(run[rank].steps[i].gradient_norm, runs[0][0].steps[i].gradient_norm);
      }
      const auto a = run[rank].parameters.span<float>(), b = runs[0][rank].parameters.span<float>();
      EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end())) << "rank " << rank;
    }
}

// Captured steps, collectives included, give the bits of steps as the layers enqueue them.
TEST(ParallelTraining, CapturedStepsChangeNothing) {
  for (const std::string mechanism : {"dense", "adaptive"}) {
    RunConfig config = compared_run(mechanism, "bf16");
    config.model.sparsity.warmup_steps = config.model.sparsity.ramp_steps = 0;
    config.train.steps = 6;
    std::map<std::string, std::vector<TrainedRank>> runs;
    for (const std::string cuda_graph : {"false", "true"}) {
      config.train.cuda_graph = cuda_graph;
      runs[cuda_graph].resize(static_cast<std::size_t>(kGrid.world()));
      train_on_gpus(config, 5, [&](const TrainingEngine& engine, const TrainedRank& run) {
        runs[cuda_graph][static_cast<std::size_t>(engine.mesh().world().rank())] = run;
        if (cuda_graph == "true") {
          EXPECT_GE(engine.replay()->replayed(), 2) << mechanism;
        }
      });
    }
    for (std::size_t rank = 0; rank < runs["true"].size(); ++rank) {
      const TrainedRank &a = runs["false"][rank], &b = runs["true"][rank];
      for (std::size_t i = 0; i < a.steps.size(); ++i) {
        EXPECT_EQ(a.steps[i].loss, b.steps[i].loss) << mechanism << ", step " << i + 1;
        EXPECT_EQ(a.steps[i].gradient_norm, b.steps[i].gradient_norm);
      }
      const auto x = a.parameters.span<float>(), y = b.parameters.span<float>();
      EXPECT_TRUE(std::equal(x.begin(), x.end(), y.begin(), y.end()))
          << mechanism << ", rank " << rank;
    }
  }
}

}  // namespace
}  // namespace filigree
