// The adaptive mechanism: its limits, what teaches its gate, and what it refuses.
#include <gtest/gtest.h>

#include <cstring>

#include "layers/sparsity/block_budget.hpp"
#include "tests/harness/tiny_model.hpp"

namespace filigree {
namespace {

using testing::random_ids;
using testing::random_tensor;
using testing::sequences;
using testing::TinyModel;

constexpr std::int64_t kSequence = 127;  // 8 blocks of 16, the last one short

ModelConfig adaptive_config(const std::string& learn) {
  ModelConfig config = testing::tiny_config();
  config.mechanism = "adaptive";
  config.sequence = kSequence;
  config.sparsity.key_block = 16;
  config.sparsity.query_group = 16;
  config.sparsity.density = 0.7;
  config.sparsity.learn = learn;
  config.sparsity.distill_share = 1.0;
  config.sparsity.distill_weight = 0.3;
  return config.resolved(0);
}

BatchInfo training_batch(std::int64_t step = 10) {
  BatchInfo batch = sequences(2, kSequence);
  batch.training = true;
  batch.step = step;
  return batch;
}

bool is_gate(const Parameter& parameter) {
  return parameter.name.find(".gate.") != std::string::npos &&
         parameter.name.find("attention") != std::string::npos;
}

double largest(const Tensor& values) {
  double size = 0.0;
  for (const double value : values.span<double>()) size = std::max(size, std::abs(value));
  return size;
}

class Adaptive : public ::testing::Test {
 protected:
  // The language model's loss times `seed`, and whatever the mechanism adds.
  void backward(TinyModel& tiny, const BatchInfo& batch, double seed) const {
    tiny.store.clear_gradients();
    Tape tape(tiny.execution);
    const Variable loss = tiny.model.loss_sum(tape, tokens_, targets_, batch);
    tape.backward(loss, Tensor::from<double>({}, std::array{seed}).to(loss.value().dtype()));
  }

  // seed * loss + distill_weight * sum over layers of the mean divergence.
  double objective(TinyModel& tiny, BatchInfo batch, double seed) const {
    std::vector<LayerStatistics> layers(2);
    batch.statistics = &layers;
    Tape tape(tiny.execution, Tape::Mode::inference);
    double value =
        seed * *tiny.model.loss_sum(tape, tokens_, targets_, batch).value().data<double>();
    if (tiny.model.config().sparsity.distills())
      for (const LayerStatistics& layer : layers)
        value += tiny.model.config().sparsity.distill_weight * layer.mean_divergence();
    return value;
  }

  Mesh mesh_{self_communicator("world"), {}};
  const Tensor tokens_ = random_ids(2 * kSequence, 13, 1);
  const Tensor targets_ = random_ids(2 * kSequence, 13, 2);
};

// With the choice frozen (no move is large enough to change it), the gate's gradient is that of
// the whole objective.
TEST_F(Adaptive, GateGradientMatchesCentralDifferences) {
  for (const char* learn : {"distill", "end_to_end", "both"}) {
    TinyModel tiny(adaptive_config(learn), mesh_);
    const BatchInfo batch = training_batch();
    backward(tiny, batch, 0.7);
    for (std::size_t i = 0; i < tiny.store.size(); ++i) {
      if (!is_gate(tiny.store[i])) continue;
      const Tensor weights = tiny.store.master_of(i), saved = weights.clone();
      const Tensor direction = random_tensor(weights.shape(), 50 + i);
      // The bias of an earlier layer moves what a later layer's gate is compared with, which the
      // gradient leaves out on purpose: with both, only the last layer's objective is all its own.
      if (learn == std::string("both") && tiny.store[i].name.find("blocks.1") != 0) continue;
      const auto moved = [&](double amount) {
        for (std::int64_t e = 0; e < weights.numel(); ++e)
          weights.data<double>()[e] =
              saved.data<double>()[e] + amount * direction.data<double>()[e];
        return objective(tiny, batch, 0.7);
      };
      const double numeric = (moved(1e-6) - moved(-1e-6)) / 2e-6;
      weights.copy_from(saved);
      const double analytic = testing::dot(tiny.store.variable(i).gradient(), direction);
      EXPECT_GT(std::abs(analytic), 1e-6) << tiny.store[i].name;
      EXPECT_NEAR(numeric, analytic, 1e-6 * std::max(1.0, std::abs(numeric)))
          << learn << " " << tiny.store[i].name;
    }
  }
}

// End to end, everything before the gate feels it too.
TEST_F(Adaptive, EndToEndGradientsOfTheWholeModelMatchCentralDifferences) {
  TinyModel tiny(adaptive_config("end_to_end"), mesh_);
  const BatchInfo batch = training_batch();
  backward(tiny, batch, 0.7);
  for (std::size_t i = 0; i < tiny.store.size(); ++i) {
    const Tensor weights = tiny.store.master_of(i), saved = weights.clone();
    const Tensor direction = random_tensor(weights.shape(), 50 + i);
    const auto moved = [&](double amount) {
      for (std::int64_t e = 0; e < weights.numel(); ++e)
        weights.data<double>()[e] = saved.data<double>()[e] + amount * direction.data<double>()[e];
      return objective(tiny, batch, 0.7);
    };
    const double numeric = (moved(1e-6) - moved(-1e-6)) / 2e-6;
    weights.copy_from(saved);
    const double analytic = testing::dot(tiny.store.variable(i).gradient(), direction);
    EXPECT_NEAR(numeric, analytic, 1e-6 * std::max(1.0, std::abs(numeric))) << tiny.store[i].name;
  }
}

TEST_F(Adaptive, DistillationTeachesTheGateAloneAndTheLossTheRest) {
  TinyModel distilled(adaptive_config("distill"), mesh_);
  const BatchInfo batch = training_batch();
  backward(distilled, batch, 0.0);  // the language model's loss does not count
  for (std::size_t i = 0; i < distilled.store.size(); ++i) {
    const double size = largest(distilled.store.variable(i).gradient());
    if (is_gate(distilled.store[i]))
      EXPECT_GT(size, 1e-6) << distilled.store[i].name;
    else
      EXPECT_EQ(size, 0.0) << distilled.store[i].name;
  }
  TinyModel untaught(adaptive_config("none"), mesh_);
  backward(untaught, batch, 0.7);
  for (std::size_t i = 0; i < untaught.store.size(); ++i) {
    const double size = largest(untaught.store.variable(i).gradient());
    if (is_gate(untaught.store[i]))
      EXPECT_EQ(size, 0.0) << untaught.store[i].name;
    else
      EXPECT_GT(size, 1e-6) << untaught.store[i].name;
  }
}

TEST_F(Adaptive, LossLeavesADistilledGateAlone) {
  TinyModel tiny(adaptive_config("distill"), mesh_);
  std::vector<Tensor> quiet;
  backward(tiny, training_batch(), 0.0);
  for (std::size_t i = 0; i < tiny.store.size(); ++i)
    quiet.push_back(tiny.store.variable(i).gradient().clone());
  backward(tiny, training_batch(), 0.7);
  for (std::size_t i = 0; i < tiny.store.size(); ++i)
    if (is_gate(tiny.store[i])) {
      EXPECT_EQ(std::memcmp(quiet[i].raw(), tiny.store.variable(i).gradient().raw(),
                            static_cast<std::size_t>(quiet[i].bytes())),
                0)
          << tiny.store[i].name;
    }
}

TEST_F(Adaptive, FullDensityEqualsDenseAttention) {
  ModelConfig dense = testing::tiny_config();
  dense.sequence = kSequence;
  TinyModel expected(dense, mesh_);
  backward(expected, training_batch(), 0.7);
  const Tensor expected_scores = expected.model.log_probabilities(
      expected.execution, tokens_, targets_, sequences(2, kSequence));
  for (const char* learn : {"distill", "end_to_end", "both", "none"}) {
    ModelConfig config = adaptive_config(learn);
    config.sparsity.density = 1.0;
    config.sparsity.dense_heads = 0.0;
    TinyModel tiny(config, mesh_);
    backward(tiny, training_batch(), 0.7);
    const Tensor scores =
        tiny.model.log_probabilities(tiny.execution, tokens_, targets_, sequences(2, kSequence));
    for (std::int64_t t = 0; t < scores.numel(); ++t)
      ASSERT_NEAR(scores.data<double>()[t], expected_scores.data<double>()[t], 1e-12) << learn;
    for (std::size_t i = 0; i < expected.store.size(); ++i) {
      std::size_t mine = 0;
      while (tiny.store[mine].name != expected.store[i].name) ++mine;
      const Tensor want = expected.store.variable(i).gradient();
      const Tensor got = tiny.store.variable(mine).gradient();
      for (std::int64_t e = 0; e < want.numel(); ++e)
        ASSERT_NEAR(got.data<double>()[e], want.data<double>()[e], 1e-11 * largest(want))
            << learn << " " << expected.store[i].name;
    }
  }
}

TEST_F(Adaptive, AWindowAsLongAsTheSequenceEqualsDenseAttention) {
  ModelConfig config = testing::tiny_config();
  config.sequence = kSequence;
  TinyModel dense(config, mesh_);
  config.mechanism = "sliding_window";
  config.sparsity.window = kSequence;
  config.sparsity.key_block = 16;
  TinyModel windowed(config.resolved(0), mesh_);
  const BatchInfo batch = sequences(2, kSequence);
  const Tensor want = dense.model.log_probabilities(dense.execution, tokens_, targets_, batch);
  const Tensor got = windowed.model.log_probabilities(windowed.execution, tokens_, targets_, batch);
  for (std::int64_t t = 0; t < want.numel(); ++t)
    ASSERT_NEAR(got.data<double>()[t], want.data<double>()[t], 1e-12);
}

TEST_F(Adaptive, RecomputeGivesBitEqualGradientsAndCountsObjectivesOnce) {
  for (const char* learn : {"distill", "both", "none"}) {
    for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
      Tensor reference;
      for (const char* policy : {"none", "attention", "block"}) {
        ModelConfig config = adaptive_config(learn);
        config.recompute = policy;
        TinyModel tiny(config, mesh_, dtype);
        backward(tiny, training_batch(), 0.7);
        if (!reference.defined()) reference = tiny.store.gradient().clone();
        EXPECT_EQ(std::memcmp(reference.raw(), tiny.store.gradient().raw(),
                              static_cast<std::size_t>(reference.bytes())),
                  0)
            << learn << " " << policy << " " << name_of(dtype);
      }
    }
  }
}

TEST_F(Adaptive, DensityFallsFromOneToItsTarget) {
  ModelConfig config = adaptive_config("both");
  config.sparsity.dense_heads = 0.0;
  config.sparsity.warmup_steps = 4;
  config.sparsity.ramp_steps = 10;
  TinyModel tiny(config, mesh_);
  const auto density = [&](BatchInfo batch) {
    std::vector<LayerStatistics> layers(2);
    batch.statistics = &layers;
    Tape tape(tiny.execution, Tape::Mode::inference);
    tiny.model.loss_sum(tape, tokens_, targets_, batch);
    EXPECT_EQ(layers[0].density(), layers[1].density());
    EXPECT_LT(layers[0].forced_share(), 0.9);
    return layers[0].density();
  };
  EXPECT_EQ(density(training_batch(4)), 1.0);
  EXPECT_NEAR(density(training_batch(9)), 0.85, 0.02);
  EXPECT_NEAR(density(training_batch(14)), 0.7, 0.02);
  EXPECT_EQ(density(training_batch(14)), density(training_batch(1000)));
  EXPECT_EQ(density(sequences(2, kSequence)), density(training_batch(14)));  // not training
}

TEST_F(Adaptive, GreedyGenerationEqualsFullRecomputation) {
  for (const std::int64_t group : {1, 7, 16, 24}) {
    ModelConfig config = adaptive_config("both");
    config.sparsity.query_group = group;
    TinyModel tiny(config, mesh_);
    DecodeCache cache = tiny.model.make_cache(tiny.execution, kSequence);
    std::vector<std::int32_t> text(tokens_.data<std::int32_t>(), tokens_.data<std::int32_t>() + 21);
    Tensor next = Tensor::from<std::int32_t>({21}, text);
    while (std::ssize(text) < kSequence) {
      const Tensor logits = tiny.model.decode(tiny.execution, next, cache);
      const auto values = logits.span<double>();
      const auto chosen = static_cast<std::int32_t>(std::max_element(values.begin(), values.end()) -
                                                    values.begin());
      // The token that the whole text so far makes likeliest, from scratch.
      const auto length = static_cast<std::int64_t>(text.size());
      const Tensor all = Tensor::from<std::int32_t>({length}, text);
      std::int32_t likeliest = -1;
      double best = -1e300;
      for (std::int32_t v = 0; v < 13; ++v) {
        const std::vector<std::int32_t> same(text.size(), v);
        const Tensor scores = tiny.model.log_probabilities(
            tiny.execution, all, Tensor::from<std::int32_t>({length}, same), sequences(1, length));
        if (const double score = scores.data<double>()[length - 1]; score > best) {
          best = score;
          likeliest = v;
        }
      }
      ASSERT_EQ(chosen, likeliest) << "after " << length << " tokens, groups of " << group;
      text.push_back(chosen);
      next = Tensor::from<std::int32_t>({1}, std::array{chosen});
    }
  }
}

TEST_F(Adaptive, StepsAllocateNothingFromTheSystemAfterWarmUp) {
  TinyModel tiny(adaptive_config("both"), mesh_, DType::f32);
  const auto allocator = std::make_shared<CachingAllocator>(Device{});
  tiny.execution.allocator = allocator;
  std::int64_t warm = 0;
  for (int step = 0; step < 6; ++step) {
    backward(tiny, training_batch(10 + step), 0.7);
    if (step == 1) warm = allocator->system_allocations();
  }
  EXPECT_GT(warm, 0);
  EXPECT_EQ(allocator->system_allocations(), warm);
}

TEST_F(Adaptive, ParameterCountIsTheConfigurations) {
  ModelConfig config = adaptive_config("both");
  config.sparsity.gate_dim = 4;
  TinyModel tiny(config, mesh_);
  std::int64_t count = 0;
  for (const Parameter& parameter : tiny.store.parameters()) {
    count += parameter.local_shape.numel();
    EXPECT_TRUE(!is_gate(parameter) || !parameter.decays) << parameter.name;
  }
  EXPECT_EQ(count, config.parameters());
}

TEST_F(Adaptive, BadSettingsGetOneLineEach) {
  ModelConfig config = adaptive_config("both");
  config.sparsity.density = 0.0;
  config.sparsity.key_block = 128;
  config.sparsity.query_group = 200;
  config.sparsity.threshold = 1.5;
  config.sparsity.dense_heads = 2.0;
  config.sparsity.learn = "hope";
  config.sparsity.selection = "best";
  config.sparsity.gate_dim = 3;
  try {
    config.resolved(0);
    FAIL() << "accepted";
  } catch (const UserError& error) {
    const std::string text = error.what();
    for (const char* part :
         {"sparsity.density = 0: must be above 0",
          "key_block = 128: is longer than model.sequence = 127", "query_group = 200",
          "threshold = 1.5: must lie in 0..1", "dense_heads = 2",
          "learn = hope: allowed for model.mechanism = adaptive: auto, distill, end_to_end",
          "selection = best", "gate_dim = 3"})
      EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
  }
  config = adaptive_config("end_to_end");
  config.mechanism = "deepspeed_fixed";
  EXPECT_THROW(config.resolved(0), UserError);
  config = adaptive_config("auto");
  config.mechanism = "sliding_window";  // without a window
  EXPECT_THROW(config.resolved(0), UserError);
}

}  // namespace
}  // namespace filigree
