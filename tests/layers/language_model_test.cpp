// The whole model on one rank: gradients, causality, generation, recompute.
#include "layers/language_model.hpp"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/harness/tiny_model.hpp"

namespace filigree {
namespace {

using testing::random_ids;
using testing::random_tensor;
using testing::sequences;
using testing::tiny_config;
using testing::TinyModel;

class OneRank : public ::testing::Test {
 protected:
  Mesh mesh_{self_communicator("world"), {}};
};

double loss_of(TinyModel& tiny, const Tensor& tokens, const Tensor& targets,
               const BatchInfo& batch) {
  Tape tape(tiny.execution, Tape::Mode::inference);
  return *tiny.model.loss_sum(tape, tokens, targets, batch).value().data<double>();
}

TEST_F(OneRank, ParameterCountIsTheConfigurations) {
  for (const bool tied : {true, false}) {
    ModelConfig config = tiny_config();
    config.tied_embeddings = tied;
    TinyModel tiny(config, mesh_);
    std::int64_t count = 0;
    for (const Parameter& parameter : tiny.store.parameters())
      count += parameter.local_shape.numel();
    EXPECT_EQ(count, config.parameters());
  }
}

TEST_F(OneRank, WholeModelGradientMatchesCentralDifferences) {
  for (const bool tied : {true, false}) {
    ModelConfig config = tiny_config();
    config.tied_embeddings = tied;
    config.dropout = 0.2;
    TinyModel tiny(config, mesh_);
    const Tensor tokens = random_ids(18, config.vocabulary, 1);
    const Tensor targets = random_ids(18, config.vocabulary, 2);
    BatchInfo batch = sequences(2, 9);
    batch.training = true;
    batch.seed = 3;
    Tape tape(tiny.execution);
    const Variable loss = tiny.model.loss_sum(tape, tokens, targets, batch);
    tape.backward(loss, Tensor::from<double>({}, std::array{1.0}));

    for (std::size_t i = 0; i < tiny.store.size(); ++i) {
      const Tensor weights = tiny.store.master_of(i), saved = weights.clone();
      const Tensor direction = random_tensor(weights.shape(), 50 + i);
      const auto moved = [&](double amount) {
        for (std::int64_t e = 0; e < weights.numel(); ++e)
          weights.data<double>()[e] =
              saved.data<double>()[e] + amount * direction.data<double>()[e];
        return loss_of(tiny, tokens, targets, batch);
      };
      const double numeric = (moved(1e-5) - moved(-1e-5)) / 2e-5;
      weights.copy_from(saved);
      const double analytic = testing::dot(tiny.store.variable(i).gradient(), direction);
      EXPECT_NEAR(numeric, analytic, 1e-6 * std::max(1.0, std::abs(numeric))) << tiny.store[i].name;
    }
  }
}

TEST_F(OneRank, LaterTokensLeaveEarlierPredictionsBitIdentical) {
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    TinyModel tiny(tiny_config(), mesh_, dtype);
    const Tensor targets = random_ids(9, 13, 2);
    Tensor tokens = random_ids(9, 13, 1);
    const Tensor before =
        tiny.model.log_probabilities(tiny.execution, tokens, targets, sequences(1, 9));
    for (std::int64_t changed = 1; changed < 9; ++changed) {
      Tensor other = tokens.clone();
      other.data<std::int32_t>()[changed] = (other.data<std::int32_t>()[changed] + 5) % 13;
      const Tensor after =
          tiny.model.log_probabilities(tiny.execution, other, targets, sequences(1, 9));
      EXPECT_EQ(std::memcmp(before.raw(), after.raw(),
                            static_cast<std::size_t>(changed * size_of(before.dtype()))),
                0)
          << name_of(dtype) << ", token " << changed;
      EXPECT_NE(std::memcmp(before.raw(), after.raw(), static_cast<std::size_t>(before.bytes())),
                0);
    }
  }
}

TEST_F(OneRank, DecodingTokenByTokenGivesTheLogitsOfTheWholeSequence) {
  TinyModel tiny(tiny_config(), mesh_);
  const Tensor tokens = random_ids(9, 13, 1);
  DecodeCache prefill = tiny.model.make_cache(tiny.execution, 9);
  DecodeCache cache = tiny.model.make_cache(tiny.execution, 9);
  for (std::int64_t i = 0; i < 9; ++i) {
    const Tensor logits = tiny.model.decode(tiny.execution, tokens.rows(i, i + 1), cache);
    if (i == 3) tiny.model.decode(tiny.execution, tokens.rows(0, 4), prefill);
    if (i == 8) {
      const Tensor at_once = tiny.model.decode(tiny.execution, tokens.rows(4, 9), prefill);
      for (std::int64_t v = 0; v < 13; ++v)
        EXPECT_NEAR(logits.data<double>()[v], at_once.data<double>()[v], 1e-12);
    }
    double sum = 0.0;
    for (const double z : logits.span<double>()) sum += std::exp(z);
    for (std::int32_t v = 0; v < 13; ++v) {
      const Tensor targets =
          Tensor::from<std::int32_t>({i + 1}, std::vector<std::int32_t>(i + 1, v));
      const Tensor expected = tiny.model.log_probabilities(tiny.execution, tokens.rows(0, i + 1),
                                                           targets, sequences(1, i + 1));
      EXPECT_NEAR(logits.data<double>()[v] - std::log(sum), expected.data<double>()[i], 1e-12);
    }
  }
}

TEST_F(OneRank, RecomputeGivesBitEqualGradients) {
  const Tensor tokens = random_ids(18, 13, 1), targets = random_ids(18, 13, 2);
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    Tensor reference;
    for (const char* policy : {"none", "attention", "block"}) {
      ModelConfig config = tiny_config();
      config.recompute = policy;
      config.dropout = 0.1;
      TinyModel tiny(config, mesh_, dtype);
      BatchInfo batch = sequences(2, 9);
      batch.training = true;
      Tape tape(tiny.execution);
      int ready = 0;
      tape.on_gradient_ready([&](const Variable&) { ++ready; });
      const Variable loss = tiny.model.loss_sum(tape, tokens, targets, batch);
      tape.backward(loss, Tensor::from<double>({}, std::array{1.0}).to(loss.value().dtype()));
      EXPECT_EQ(ready, static_cast<int>(tiny.store.size())) << policy;
      if (!reference.defined()) reference = tiny.store.gradient().clone();
      EXPECT_EQ(std::memcmp(reference.raw(), tiny.store.gradient().raw(),
                            static_cast<std::size_t>(reference.bytes())),
                0)
          << policy << " " << name_of(dtype);
    }
  }
}

TEST_F(OneRank, StepsAllocateNothingFromTheSystemAfterWarmUp) {
  TinyModel tiny(tiny_config(), mesh_, DType::f32);
  const auto allocator = std::make_shared<CachingAllocator>(Device{});
  tiny.execution.allocator = allocator;
  const Tensor tokens = random_ids(18, 13, 1), targets = random_ids(18, 13, 2);
  std::int64_t warm = 0;
  for (int step = 0; step < 6; ++step) {
    tiny.store.clear_gradients();
    Tape tape(tiny.execution);
    const Variable loss = tiny.model.loss_sum(tape, tokens, targets, sequences(2, 9));
    tape.backward(loss, Tensor::from<float>({}, std::array{1.0f}));
    if (step == 1) warm = allocator->system_allocations();
  }
  EXPECT_GT(warm, 0);
  EXPECT_EQ(allocator->system_allocations(), warm);
}

TEST_F(OneRank, SizesThatDoNotFitAreRefusedTogether) {
  ModelConfig config;
  config.vocabulary = 10;
  config.width = 30;
  config.heads = 4;
  config.kv_heads = 3;
  config.mechanism = "dens";
  try {
    config.resolved(0);
    FAIL() << "accepted";
  } catch (const UserError& error) {
    const std::string text = error.what();
    for (const char* part : {"model.width = 30", "model.kv_heads = 3", "did you mean 'dense'"})
      EXPECT_NE(text.find(part), std::string::npos) << text;
  }
  EXPECT_THROW(tiny_config().check_tensor_parallel(3), UserError);
}

}  // namespace
}  // namespace filigree
