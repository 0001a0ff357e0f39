// The head gate of the adaptive mechanism: what it skips, what it costs, what teaches it.
#include <gtest/gtest.h>

#include <cmath>

#include "layers/sparsity/registry.hpp"
#include "tests/harness/tiny_model.hpp"

namespace filigree {
namespace {

using testing::random_ids;
using testing::random_tensor;
using testing::sequences;
using testing::TinyModel;

constexpr std::int64_t kSequence = 127;

ModelConfig head_config(double threshold, const std::string& learn = "both") {
  ModelConfig config = testing::tiny_config();
  config.mechanism = "adaptive";
  config.sequence = kSequence;
  config.sparsity.key_block = 16;
  config.sparsity.query_group = 16;
  config.sparsity.density = 0.7;
  config.sparsity.learn = learn;
  config.sparsity.head_gate = true;
  config.sparsity.head_threshold = threshold;
  return config.resolved(0);
}

bool is_head_gate(const Parameter& parameter) {
  return parameter.name.find(".gate.head_") != std::string::npos;
}

class HeadGates : public ::testing::Test {
 protected:
  BatchInfo training(std::int64_t step = 10) const {
    BatchInfo batch = sequences(2, kSequence);
    batch.training = true;
    batch.step = step;
    return batch;
  }
  void backward(TinyModel& tiny) const {
    tiny.store.clear_gradients();
    Tape tape(tiny.execution);
    const Variable loss = tiny.model.loss_sum(tape, tokens_, targets_, training());
    tape.backward(loss, Tensor::from<double>({}, std::array{0.7}));
  }
  double loss(TinyModel& tiny) const {
    Tape tape(tiny.execution, Tape::Mode::inference);
    return *tiny.model.loss_sum(tape, tokens_, targets_, training()).value().data<double>();
  }
  LayerStatistics first_layer(TinyModel& tiny, std::int64_t step = 10) const {
    std::vector<LayerStatistics> layers(2);
    BatchInfo batch = training(step);
    batch.statistics = &layers;
    Tape tape(tiny.execution, Tape::Mode::inference);
    tiny.model.loss_sum(tape, tokens_, targets_, batch);
    return layers[0];
  }

  Mesh mesh_{self_communicator("world"), {}};
  const Tensor tokens_ = random_ids(2 * kSequence, 13, 1);
  const Tensor targets_ = random_ids(2 * kSequence, 13, 2);
};

// Three of four heads are asked, for 8 groups of 2 sequences.
TEST_F(HeadGates, SkippedHeadsDoNoWork) {
  TinyModel all(head_config(0.0), mesh_), some(head_config(0.5), mesh_);
  TinyModel none(head_config(1.0), mesh_);
  const LayerStatistics kept = first_layer(all), fewer = first_layer(some);
  const LayerStatistics dense_only = first_layer(none);
  EXPECT_EQ(kept.head_choices, 3.0 * 8 * 2);
  EXPECT_EQ(kept.heads_skipped, 0.0);
  EXPECT_GT(fewer.skipped_share(), 0.1);
  EXPECT_LT(fewer.skipped_share(), 0.9);
  EXPECT_LT(fewer.density(), kept.density());
  EXPECT_EQ(dense_only.skipped_share(), 1.0);
  EXPECT_EQ(dense_only.pairs, dense_only.allowed_pairs / 4);  // the dense head's
  // One pass without statistics: the work of attention is that of the pairs.
  const auto flops = [&](TinyModel& tiny) {
    tiny.execution.work = {};
    loss(tiny);
    return tiny.execution.work[WorkPart::attention].work.flops;
  };
  const auto dense_flops = flops(none);
  EXPECT_GT(dense_flops, 0);
  EXPECT_LT(dense_flops, flops(some));
  EXPECT_LT(flops(some), flops(all));
}

TEST_F(HeadGates, NothingIsSkippedBeforeTheRamp) {
  ModelConfig config = head_config(1.0);
  config.sparsity.warmup_steps = 4;
  config.sparsity.ramp_steps = 4;
  TinyModel tiny(config, mesh_);
  EXPECT_EQ(first_layer(tiny, 4).heads_skipped, 0.0);
  EXPECT_EQ(first_layer(tiny, 8).skipped_share(), 1.0);
}

// No move is large enough to change what is skipped.
TEST_F(HeadGates, GradientMatchesCentralDifferences) {
  for (const char* learn : {"distill", "end_to_end", "both"}) {
    TinyModel tiny(head_config(0.5, learn), mesh_);
    backward(tiny);
    int compared = 0;
    for (std::size_t i = 0; i < tiny.store.size(); ++i) {
      // With inputs detached, a later layer's gates do not tell an earlier layer how they feel.
      const bool complete = learn == std::string("end_to_end") ||
                            tiny.store[i].name.find("blocks.1") != std::string::npos;
      if (!complete || (learn != std::string("end_to_end") && !is_head_gate(tiny.store[i])))
        continue;
      const Tensor weights = tiny.store.master_of(i), saved = weights.clone();
      const Tensor direction = random_tensor(weights.shape(), 50 + i);
      const auto moved = [&](double amount) {
        for (std::int64_t e = 0; e < weights.numel(); ++e)
          weights.data<double>()[e] =
              saved.data<double>()[e] + amount * direction.data<double>()[e];
        return 0.7 * loss(tiny);
      };
      const double numeric = (moved(1e-6) - moved(-1e-6)) / 2e-6;
      weights.copy_from(saved);
      const double analytic = testing::dot(tiny.store.variable(i).gradient(), direction);
      EXPECT_NEAR(numeric, analytic, 1e-6 * std::max(1.0, std::abs(numeric)))
          << learn << " " << tiny.store[i].name;
      if (is_head_gate(tiny.store[i])) {
        EXPECT_GT(std::abs(analytic), 1e-6) << tiny.store[i].name;
        ++compared;
      }
    }
    EXPECT_EQ(compared, learn == std::string("end_to_end") ? 4 : 2);
  }
}

TEST_F(HeadGates, LearnsNothingWhereNothingShould) {
  TinyModel tiny(head_config(0.5, "none"), mesh_);
  backward(tiny);
  for (std::size_t i = 0; i < tiny.store.size(); ++i)
    if (is_head_gate(tiny.store[i])) {
      for (const double value : tiny.store.variable(i).gradient().span<double>())
        ASSERT_EQ(value, 0.0) << tiny.store[i].name;
    }
}

TEST_F(HeadGates, ParameterCountIsTheConfigurations) {
  TinyModel tiny(head_config(0.3), mesh_);
  std::int64_t count = 0;
  for (const Parameter& parameter : tiny.store.parameters()) {
    count += parameter.local_shape.numel();
    EXPECT_TRUE(!is_head_gate(parameter) || (parameter.gate && !parameter.decays));
  }
  EXPECT_EQ(count, tiny.model.config().parameters());
}

TEST_F(HeadGates, BadSettingsGetOneLine) {
  const auto refusal = [](const ModelConfig& config) -> std::string {
    try {
      config.resolved(0);
      return "accepted";
    } catch (const UserError& error) {
      return error.what();
    }
  };
  ModelConfig config = head_config(0.3);
  config.sparsity.head_threshold = 1.5;
  EXPECT_EQ(refusal(config), "sparsity.head_threshold = 1.5: must lie in 0..1");
  config = head_config(0.3);
  config.sparsity.window = 4;
  EXPECT_EQ(refusal(config),
            "sparsity.head_gate = true: a skipped head reads nothing, so sparsity.window and "
            "sparsity.sinks must be 0");
  config = head_config(0.3);
  config.mechanism = "seer";
  config.sparsity.learn = "auto";
  EXPECT_EQ(refusal(config),
            "sparsity.head_gate = true: model.mechanism = seer has no head gate; adaptive has");
}

}  // namespace
}  // namespace filigree
