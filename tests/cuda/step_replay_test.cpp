// Captured steps against the same steps as their layers enqueue them.
#include "runtime/training/step_replay.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "tests/cuda/compared_run.hpp"
#include "tests/cuda/fresh_gpu.hpp"
#include "tests/cuda/trained_run.hpp"

namespace filigree {
namespace {

using testing::compared_run;
using testing::SyntheticSource;

// An engine on the GPU with its data.
struct Training {
  explicit Training(const RunConfig& run, std::uint64_t seed = 1)
      : config(run),
        mesh(self_communicator("world"), {}),
        engine(config, mesh, testing::fresh_gpu(seed)),
        source(config, batch_share(config.train.batch, mesh)) {}
  StepResult step(bool measure = false) { return engine.step(source, ++steps, measure); }
  Tensor parameters() { return engine.context().download(engine.parameters().master()).clone(); }

  RunConfig config;
  Mesh mesh;
  TrainingEngine engine;
  SyntheticSource source;
  std::int64_t steps = 0;
};

RunConfig with_graphs(RunConfig config, const std::string& cuda_graph) {
  config.train.cuda_graph = cuda_graph;
  return config;
}

void expect_equal_bits(const Tensor& a, const Tensor& b) {
  ASSERT_EQ(a.bytes(), b.bytes());
  EXPECT_EQ(std::memcmp(a.raw(), b.raw(), static_cast<std::size_t>(a.bytes())), 0);
}

struct Course {
  std::vector<StepResult> steps;
  std::vector<Work> work;  // of each step
  Tensor parameters, first_moment;
  std::int64_t captured = 0, replayed = 0;
};

// `between` is called after every step.
Course run(const RunConfig& config, std::uint64_t seed,
           const std::function<void(Training&)>& between = {}) {
  Training training(config, seed);
  Course course;
  for (std::int64_t i = 0; i < config.train.steps; ++i) {
    training.engine.context().reset_work();
    course.steps.push_back(training.step());
    course.work.push_back(training.engine.context().work.total());
    if (between) between(training);
  }
  course.parameters = training.parameters();
  course.first_moment =
      training.engine.context().download(training.engine.optimizer().first_moment());
  if (training.engine.replay()) {
    course.captured = training.engine.replay()->captured();
    course.replayed = training.engine.replay()->replayed();
  }
  return course;
}

void expect_same(const Course& a, const Course& b) {
  for (std::size_t i = 0; i < a.steps.size(); ++i) {
    SCOPED_TRACE(str("step ", i + 1));
    EXPECT_EQ(a.steps[i].loss, b.steps[i].loss);
    EXPECT_EQ(a.steps[i].gradient_norm, b.steps[i].gradient_norm);
    EXPECT_EQ(a.steps[i].skipped, b.steps[i].skipped);
    EXPECT_EQ(a.work[i].flops, b.work[i].flops);
    EXPECT_EQ(a.work[i].dense_flops, b.work[i].dense_flops);
    EXPECT_EQ(a.work[i].bytes, b.work[i].bytes);
  }
  expect_equal_bits(a.parameters, b.parameters);
  expect_equal_bits(a.first_moment, b.first_moment);
}

TEST(StepReplay, GivesTheBitsOfEnqueuedStepsForDenseF32WithDropout) {
  const RunConfig config = compared_run("dense", "f32");
  ASSERT_GT(config.model.dropout, 0.0);
  ASSERT_GT(config.train.batch, config.train.micro_batch) << "two micro-steps of unequal size";
  const Course enqueued = run(with_graphs(config, "false"), 1);
  const Course replayed = run(with_graphs(config, "true"), 1);
  EXPECT_EQ(enqueued.captured, 0);
  EXPECT_EQ(replayed.captured, 1) << "step 2";
  EXPECT_EQ(replayed.replayed, 8) << "steps 3 to 10";
  expect_same(enqueued, replayed);
  EXPECT_NE(enqueued.steps[4].loss, enqueued.steps[5].loss);
}

// Dense in steps 1 and 2, another density and bias in 3 to 5, settled from 6 on, where the sampled
// groups go on changing.
TEST(StepReplay, GivesTheBitsOfEnqueuedStepsForAdaptiveBf16WithSchedules) {
  RunConfig config = compared_run("adaptive", "bf16");
  config.model.sparsity.learn = "both";
  config.model.sparsity.head_gate = true;
  config.model.sparsity.dense_heads = 0.25;
  config.model.sparsity.distill_share = 0.4;
  config.model.recompute = "attention";
  config.model.qkv_bias = true;
  const Course enqueued = run(with_graphs(config, "false"), 1);
  const Course replayed = run(with_graphs(config, "auto"), 1);
  EXPECT_GE(replayed.captured, 2) << "the warm-up, and what follows the ramp";
  EXPECT_GE(replayed.replayed, 2);
  expect_same(enqueued, replayed);
}

TEST(StepReplay, OrdersOfTheEmulatorChangeNothing) {
  RunConfig config = compared_run("adaptive", "f32");
  config.model.sparsity.warmup_steps = config.model.sparsity.ramp_steps = 0;
  config.train.steps = 4;
  const Course one = run(config, 1), other = run(config, 2);
  EXPECT_GE(one.replayed, 1);
  expect_same(one, other);
}

// What a program does between steps, in memory of its own: it neither disturbs captured steps nor
// is it disturbed by them.
TEST(StepReplay, SharesNoMemoryWithTheRestOfTheProgram) {
  const RunConfig config = compared_run("dense", "f32");
  std::vector<Tensor> kept;
  const auto between = [&](Training& training) {
    ExecutionContext& context = training.engine.context();
    const Tensor ids = Tensor::zeros({config.model.sequence}, DType::i32);
    BatchInfo info;
    info.batch = 1;
    info.length = config.model.sequence;
    info.positions_T = sequential_positions(1, info.length);
    kept.push_back(training.engine.model().log_probabilities(context, ids, ids, info));
    context.settle_work();
    for (const std::int64_t bytes : {64, 4096, 8192, 32768, 65536}) {
      kept.push_back(context.empty({bytes}, DType::u8));
      context.stream->fill(kept.back().raw(), 0x5a, bytes);
    }
  };
  const Course alone = run(with_graphs(config, "false"), 1);
  const Course course = run(with_graphs(config, "true"), 1, [&](Training& training) {
    between(training);
    for (const Tensor& tensor : kept) {
      if (tensor.dtype() != DType::u8) continue;
      const Tensor bytes = training.engine.context().download(tensor);
      for (const std::uint8_t byte : bytes.span<std::uint8_t>()) ASSERT_EQ(byte, 0x5a);
    }
    if (training.steps == config.train.steps) kept.clear();
  });
  EXPECT_GT(course.replayed, 0);
  for (std::size_t i = 0; i < alone.steps.size(); ++i)
    EXPECT_EQ(course.steps[i].loss, alone.steps[i].loss);
  expect_equal_bits(course.parameters, alone.parameters);
}

#ifdef FILIGREE_SIMT  // which counts waits
// The results, and the pairs that attention and its teacher have read.
TEST(StepReplay, WaitsForTheResultsOfAStepOnly) {
  for (const auto& [mechanism, waits] :
       {std::pair<std::string, std::uint64_t>{"dense", 1}, {"sliding_window", 1}, {"adaptive", 2}})
    for (const std::string cuda_graph : {"false", "auto"}) {
      SCOPED_TRACE(str(mechanism, ", train.cuda_graph ", cuda_graph));
      RunConfig config = compared_run(mechanism, "f32");
      config.model.sparsity.warmup_steps = config.model.sparsity.ramp_steps = 0;
      config.model.sparsity.window = mechanism == "sliding_window" ? 20 : 0;
      Training training(with_graphs(config, cuda_graph));
      for (int step = 1; step <= 4; ++step) {
        const std::uint64_t before = simt::host_waits();
        training.step();
        const bool captured = cuda_graph == "auto" && step == 2;  // begins once all has run
        EXPECT_EQ(simt::host_waits() - before, waits + captured) << "step " << step;
      }
    }
}
#endif

TEST(StepReplay, TakesNoMemoryAfterTheFirstSteps) {
  for (const std::string cuda_graph : {"false", "auto"}) {
    SCOPED_TRACE(str("train.cuda_graph ", cuda_graph));
    RunConfig config = compared_run("adaptive", "bf16");
    config.model.sparsity.warmup_steps = config.model.sparsity.ramp_steps = 0;
    Training training(with_graphs(config, cuda_graph));
    const auto& pinned = *training.engine.context().pinned;
    const auto& device =
        dynamic_cast<const CachingAllocator&>(*training.engine.context().allocator);
    for (int step = 1; step <= 3; ++step) training.step();
    const std::int64_t device_before = device.system_allocations();
    const std::int64_t pinned_before = pinned.system_allocations();
    for (int step = 4; step <= 7; ++step) training.step();
    EXPECT_EQ(device.system_allocations(), device_before);
    EXPECT_EQ(pinned.system_allocations(), pinned_before);
  }
}

TEST(StepReplay, MeasuredStepsAreEnqueuedAndChangeNothing) {
  RunConfig config = compared_run("adaptive", "f32");
  config.model.sparsity.warmup_steps = config.model.sparsity.ramp_steps = 0;
  std::vector<Tensor> parameters;
  for (const bool measures : {false, true}) {
    Training training(config);
    for (int step = 1; step <= 6; ++step) {
      const StepResult result = training.step(measures && step % 2 == 0);
      EXPECT_EQ(result.layers.empty(), !(measures && step % 2 == 0));
    }
    EXPECT_GE(training.engine.replay()->replayed(), 1);
    parameters.push_back(training.parameters());
  }
  expect_equal_bits(parameters[0], parameters[1]);
}

TEST(StepReplay, SkipsAStepWhoseGradientIsNotFinite) {
  const RunConfig config = compared_run("dense", "f32");
  Training training(with_graphs(config, "true"));
  for (int step = 1; step <= 3; ++step) EXPECT_FALSE(training.step().skipped);
  ExecutionContext& context = training.engine.context();
  const Tensor good = training.parameters();
  const Tensor bad = good.clone();
  bad.data<float>()[0] = std::numeric_limits<float>::infinity();
  context.copy(bad, training.engine.parameters().master());
  EXPECT_TRUE(training.step().skipped);
  expect_equal_bits(training.parameters(), bad);
  EXPECT_EQ(training.engine.optimizer().updates(context), 3);
  context.copy(good, training.engine.parameters().master());
  EXPECT_FALSE(training.step().skipped);
  EXPECT_EQ(training.engine.optimizer().updates(context), 4);
  EXPECT_EQ(training.engine.replay()->replayed(), 3);
}

TEST(StepReplay, IsRefusedOnTheCpu) {
  const Mesh mesh(self_communicator("world"), {});
  const RunConfig config = compared_run("dense", "f32");
  EXPECT_FALSE(TrainingEngine(config, mesh, {}).replay());
  try {
    TrainingEngine(with_graphs(config, "true"), mesh, {});
    FAIL() << "was not refused";
  } catch (const UserError& error) {
    EXPECT_EQ(std::string(error.what()),
              "train.cuda_graph = true, but a step on the CPU cannot be captured; auto captures "
              "where it can be done");
  }
}

}  // namespace
}  // namespace filigree
