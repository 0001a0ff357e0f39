// Gates distilled into a frozen dense model choose better than choices that learn nothing.
#include <gtest/gtest.h>

#include <cstring>

#include "runtime/core/random.hpp"
#include "runtime/training/training_engine.hpp"

namespace filigree {
namespace {

constexpr std::int64_t kSequence = 256, kBatch = 4, kFillers = 32, kNeedles = 4;

// One needle among fillers, in the first half of the sequence; every later token is asked which it
// was. A single layer learns within a few steps to look for it, wherever it lies.
class NeedleSource final : public MicroBatchSource {
 public:
  std::int64_t micro_batches() const override { return 1; }
  TokenBatch next() override {
    TokenBatch batch;
    batch.batch = kBatch;
    batch.length = kSequence;
    batch.first_sample = step_ * kBatch;
    batch.tokens_T = Tensor::empty({kBatch * kSequence}, DType::i32);
    batch.targets_T = Tensor::empty({kBatch * kSequence}, DType::i32);
    for (std::int64_t row = 0; row < kBatch; ++row) fill(batch, row);
    ++step_;
    return batch;
  }

 private:
  void fill(const TokenBatch& batch, std::int64_t row) const {
    const auto sample = static_cast<std::uint64_t>(batch.first_sample + row);
    const Philox random(5, RandomPurpose::test, sample);
    const auto draw = [&](std::uint64_t index, std::int64_t choices) {
      return static_cast<std::int32_t>(random.uniform(index) * static_cast<double>(choices));
    };
    const std::int64_t place = draw(0, kSequence / 2);
    const auto needle = static_cast<std::int32_t>(kFillers + draw(1, kNeedles));
    auto* const tokens = batch.tokens_T.data<std::int32_t>() + row * kSequence;
    auto* const targets = batch.targets_T.data<std::int32_t>() + row * kSequence;
    for (std::int64_t i = 0; i < kSequence; ++i) {
      tokens[i] = i == place ? needle : draw(static_cast<std::uint64_t>(2 + i), kFillers);
      targets[i] = i > place ? needle : -1;
    }
  }

  std::int64_t step_ = 0;
};

RunConfig dense_config() {
  RunConfig config;
  config.model.vocabulary = kFillers + kNeedles;
  config.model.layers = 1;
  config.model.width = 64;
  config.model.heads = 2;
  config.model.feed_forward = 64;
  config.model.sequence = kSequence;
  config.model.initial_deviation = 0.1;
  config.model = config.model.resolved(0);
  config.optimizer.learning_rate = 5e-3;
  config.schedule.kind = "constant";
  config.schedule.warmup_steps = 10;
  config.train.batch = kBatch;
  config.train.steps = 90;
  return config;
}

RunConfig gates_config() {
  RunConfig config = dense_config();
  config.model.mechanism = "adaptive";
  config.model.sparsity.key_block = config.model.sparsity.query_group = 16;
  config.model.sparsity.density = 0.35;
  config.model.sparsity.dense_heads = 0.0;
  config.model.sparsity.learn = "distill";
  config.model.sparsity.distill_share = 1.0;
  config.train.only = "gates";
  config.train.steps = 100;
  return config;
}

void copy_weights(const ParameterStore& from, TrainingEngine& engine) {
  const ParameterStore& to = engine.parameters();
  for (std::size_t i = 0; i < to.size(); ++i)
    for (std::size_t j = 0; j < from.size(); ++j)
      if (to[i].name == from[j].name) to.master_of(i).copy_from(from.master_of(j));
  to.refresh_compute(engine.context());
}

TEST(GateDistillation, CatchesMoreOfTheDenseMapThanRandomAndMeanPooledChoicesOfTheSameSize) {
  const Mesh mesh(self_communicator("world"), {});
  const RunConfig dense = dense_config(), gates = gates_config();
  TrainingEngine model(dense, mesh, {});
  NeedleSource samples, again;
  double loss = 0.0;
  for (std::int64_t step = 1; step <= dense.train.steps; ++step)
    loss = model.step(samples, step).loss;
  ASSERT_LT(loss, 0.1) << "the dense model did not learn to find the needle";

  TrainingEngine engine(gates, mesh, {});
  const ParameterStore& store = engine.parameters();
  copy_weights(model.parameters(), engine);
  const Tensor before = store.master().clone();
  LayerStatistics untrained, trained;
  for (std::int64_t step = 1; step <= gates.train.steps; ++step) {
    const bool last = step > gates.train.steps - 10;
    const StepResult result = engine.step(again, step, step == 1 || last);
    if (step == 1) untrained = result.layers.at(0);
    if (last) trained.add(result.layers.at(0));
  }
  EXPECT_GT(trained.recall(), untrained.recall() + 0.2);
  EXPECT_GT(trained.recall(), trained.recall_random() + 0.25);
  EXPECT_GT(trained.recall(), trained.recall_mean_pooled() + 0.08);
  RecordProperty("recall", std::to_string(trained.recall()));
  RecordProperty("recall_random", std::to_string(trained.recall_random()));
  RecordProperty("recall_mean_pooled", std::to_string(trained.recall_mean_pooled()));
  for (std::size_t i = 0; i < store.size(); ++i) {
    const Tensor now = store.master_of(i), then = store.slice(before, i);
    const bool same =
        std::memcmp(now.raw(), then.raw(), static_cast<std::size_t>(now.bytes())) == 0;
    EXPECT_EQ(same, !store[i].gate) << store[i].name;
  }
}

}  // namespace
}  // namespace filigree
