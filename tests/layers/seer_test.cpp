// SeerAttention's gate: its scores, what teaches it, and what it refuses.
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

constexpr std::int64_t kSequence = 127;  // 8 blocks of 16, the last one short
constexpr std::int64_t kBlock = 16, kBlocks = 8;

ModelConfig seer_config(const std::string& learn = "auto") {
  ModelConfig config = testing::tiny_config();
  config.mechanism = "seer";
  config.sequence = kSequence;
  config.sparsity.key_block = kBlock;
  config.sparsity.density = 0.6;
  config.sparsity.learn = learn;
  config.sparsity.distill_share = 1.0;
  config.sparsity.distill_weight = 0.3;
  return config.resolved(0);
}

BatchInfo training_batch() {
  BatchInfo batch = sequences(2, kSequence);
  batch.training = true;
  batch.step = 10;
  return batch;
}

double largest(const Tensor& values) {
  double size = 0.0;
  for (const double value : values.span<double>()) size = std::max(size, std::abs(value));
  return size;
}

class Seer : public ::testing::Test {
 protected:
  void backward(TinyModel& tiny, double seed) const {
    tiny.store.clear_gradients();
    Tape tape(tiny.execution);
    const Variable loss = tiny.model.loss_sum(tape, tokens_, targets_, training_batch());
    tape.backward(loss, Tensor::from<double>({}, std::array{seed}));
  }
  std::vector<LayerStatistics> statistics(TinyModel& tiny) const {
    std::vector<LayerStatistics> layers(2);
    BatchInfo batch = training_batch();
    batch.statistics = &layers;
    Tape tape(tiny.execution, Tape::Mode::inference);
    tiny.model.loss_sum(tape, tokens_, targets_, batch);
    return layers;
  }

  Mesh mesh_{self_communicator("world"), {}};
  const Tensor tokens_ = random_ids(2 * kSequence, 13, 1);
  const Tensor targets_ = random_ids(2 * kSequence, 13, 2);
};

TEST_F(Seer, GateGradientMatchesCentralDifferences) {
  TinyModel tiny(seer_config(), mesh_);
  backward(tiny, 0.0);
  int gates = 0;
  for (std::size_t i = 0; i < tiny.store.size(); ++i) {
    const Tensor gradient = tiny.store.variable(i).gradient();
    if (!tiny.store[i].gate) {
      EXPECT_EQ(largest(gradient), 0.0) << tiny.store[i].name;
      continue;
    }
    const auto layer = static_cast<std::size_t>(gates++);
    const Tensor weights = tiny.store.master_of(i), saved = weights.clone();
    const Tensor direction = random_tensor(weights.shape(), 50 + i);
    // The choice of one layer moves what the next one sees, but no move here changes a choice.
    const auto moved = [&](double amount) {
      for (std::int64_t e = 0; e < weights.numel(); ++e)
        weights.data<double>()[e] = saved.data<double>()[e] + amount * direction.data<double>()[e];
      return 0.3 * statistics(tiny)[layer].mean_divergence();
    };
    const double numeric = (moved(1e-6) - moved(-1e-6)) / 2e-6;
    weights.copy_from(saved);
    const double analytic = testing::dot(gradient, direction);
    EXPECT_GT(std::abs(analytic), 1e-6) << tiny.store[i].name;
    EXPECT_NEAR(numeric, analytic, 1e-6 * std::max(1.0, std::abs(numeric))) << tiny.store[i].name;
  }
  EXPECT_EQ(gates, 2);
}

// The first quarter of the rows is left out: 6 of 8 for each of 4 heads and 2 sequences.
TEST_F(Seer, ComparesAllButTheFirstQuarterOfTheRows) {
  TinyModel tiny(seer_config(), mesh_);
  EXPECT_EQ(statistics(tiny)[0].divergence_rows, 6.0 * 4 * 2);
}

TEST_F(Seer, TheModelsLossDoesNotReachTheGate) {
  for (const char* learn : {"distill", "none"}) {
    TinyModel quiet(seer_config(learn), mesh_), loud(seer_config(learn), mesh_);
    backward(quiet, 0.0);
    backward(loud, 0.7);
    for (std::size_t i = 0; i < quiet.store.size(); ++i) {
      const Tensor without = quiet.store.variable(i).gradient();
      const Tensor with = loud.store.variable(i).gradient();
      if (!quiet.store[i].gate) {
        EXPECT_GT(largest(with), 1e-6) << quiet.store[i].name;
        continue;
      }
      EXPECT_EQ(largest(without) > 0.0, learn == std::string("distill")) << quiet.store[i].name;
      for (std::int64_t e = 0; e < with.numel(); ++e)
        ASSERT_EQ(with.data<double>()[e], without.data<double>()[e]) << quiet.store[i].name;
    }
  }
}

TEST_F(Seer, FullDensityEqualsDenseAttention) {
  ModelConfig dense = testing::tiny_config();
  dense.sequence = kSequence;
  ModelConfig config = seer_config();
  config.sparsity.density = 1.0;
  TinyModel expected(dense, mesh_), tiny(config, mesh_);
  const BatchInfo batch = sequences(2, kSequence);
  const Tensor want =
      expected.model.log_probabilities(expected.execution, tokens_, targets_, batch);
  const Tensor got = tiny.model.log_probabilities(tiny.execution, tokens_, targets_, batch);
  for (std::int64_t t = 0; t < want.numel(); ++t)
    ASSERT_NEAR(got.data<double>()[t], want.data<double>()[t], 1e-12);
}

// One head, so that what attention reads shows in its output: the blocks that the published formula
// scores highest, written out on its own, and the diagonal.
TEST_F(Seer, ReadsTheBlocksThatThePublishedFormulaPrefers) {
  constexpr std::int64_t kWidth = 6;
  ModelConfig config = seer_config();
  config.heads = config.kv_heads = 1;
  config.sparsity.selection = "top_k";
  config.sparsity.top_k = 3;
  ParameterStore store;
  const auto mechanism = make_mechanism({"attention", 0, config, mesh_, store});
  ExecutionContext execution;
  store.materialise(DType::f64, 3, execution);
  const Shape rows{kSequence, kWidth};
  const Tensor q_raw = random_tensor(rows, 1), k_raw = random_tensor(rows, 2);
  const Tensor q = random_tensor(rows, 3), k = random_tensor(rows, 4), v = random_tensor(rows, 5);
  const BatchInfo batch = sequences(1, kSequence);
  Tape tape(execution, Tape::Mode::inference);
  const Placements heads = Placements()
                               .with(Axis::data, Placement::sharded(0))
                               .with(Axis::tensor, Placement::sharded(1));
  const AttentionShape shape{1, kSequence, kSequence, 1, 1, kWidth, 0, true, 0.4};
  const Tensor got = mechanism
                         ->attend(tape, {.x_TD = Variable(),
                                         .q_THK = Variable(q, heads),
                                         .k_TGK = Variable(k, heads),
                                         .v_TGK = Variable(v, heads),
                                         .q_raw_THK = Variable(q_raw, heads),
                                         .k_raw_TGK = Variable(k_raw, heads),
                                         .shape = shape,
                                         .batch = batch})
                         .value();

  const auto at = [](const Tensor& x, std::int64_t t, std::int64_t d) {
    return x.data<double>()[t * x.dim(1) + d];
  };
  const Tensor w = store.master_of(0);
  using Row = std::array<double, kWidth>;
  const auto rotated = [&](const Row& x, std::int64_t position) {
    Row y;
    for (std::int64_t d = 0; d < kWidth / 2; ++d) {
      const double angle = static_cast<double>(position) *
                           std::pow(config.rope_theta, -2.0 * static_cast<double>(d) / kWidth);
      y[d] = x[d] * std::cos(angle) - x[d + kWidth / 2] * std::sin(angle);
      y[d + kWidth / 2] = x[d + kWidth / 2] * std::cos(angle) + x[d] * std::sin(angle);
    }
    return y;
  };
  std::vector<Row> queries, keys;
  for (std::int64_t m = 0; m < kBlocks; ++m) {
    const std::int64_t begin = m * kBlock, end = std::min(begin + kBlock, kSequence);
    Row mean{};
    std::array<double, 3 * kWidth> pools{};
    for (std::int64_t d = 0; d < kWidth; ++d) {
      pools[d] = -1e300, pools[kWidth + d] = 1e300;
      for (std::int64_t t = begin; t < end; ++t) {
        mean[d] += at(q_raw, t, d) / static_cast<double>(end - begin);
        pools[d] = std::max(pools[d], at(k_raw, t, d));
        pools[kWidth + d] = std::min(pools[kWidth + d], at(k_raw, t, d));
        pools[2 * kWidth + d] += at(k_raw, t, d) / static_cast<double>(end - begin);
      }
    }
    Row key{};
    for (std::int64_t e = 0; e < kWidth; ++e)
      for (std::int64_t d = 0; d < 3 * kWidth; ++d) key[e] += at(w, e, d) * pools[d];
    queries.push_back(rotated(mean, begin));
    keys.push_back(rotated(key, begin));
  }
  for (std::int64_t n = 0; n < kBlocks; ++n) {
    std::vector<std::pair<double, std::int64_t>> order;
    for (std::int64_t m = 0; m < n; ++m) {
      double z = 0;
      for (std::int64_t d = 0; d < kWidth; ++d) z += queries[n][d] * keys[m][d];
      order.emplace_back(-z, m);
    }
    std::sort(order.begin(), order.end());
    std::vector<bool> read(kBlocks, false);
    read[n] = true;
    for (std::size_t i = 0; i < std::min<std::size_t>(2, order.size()); ++i)
      read[order[i].second] = true;
    for (std::int64_t t = n * kBlock; t < std::min((n + 1) * kBlock, kSequence); ++t) {
      double sum = 0;
      Row value{};
      for (std::int64_t j = 0; j <= t; ++j) {
        if (!read[j / kBlock]) continue;
        double s = 0;
        for (std::int64_t d = 0; d < kWidth; ++d) s += 0.4 * at(q, t, d) * at(k, j, d);
        sum += std::exp(s);
        for (std::int64_t d = 0; d < kWidth; ++d) value[d] += std::exp(s) * at(v, j, d);
      }
      for (std::int64_t d = 0; d < kWidth; ++d)
        ASSERT_NEAR(at(got, t, d), value[d] / sum, 1e-10) << "token " << t;
    }
  }
}

TEST_F(Seer, SaysWhatItIs) {
  ParameterStore store;
  const MechanismTraits traits =
      make_mechanism({"attention", 0, seer_config(), mesh_, store})->traits();
  EXPECT_EQ(traits.causality, Causality::block);
  EXPECT_EQ(traits.gradient, GradientKind::distill);
  EXPECT_FALSE(traits.decodes);
  TinyModel tiny(seer_config(), mesh_);
  std::int64_t count = 0;
  for (const Parameter& parameter : tiny.store.parameters()) count += parameter.local_shape.numel();
  EXPECT_EQ(count, tiny.model.config().parameters());
}

std::string refusal(const ModelConfig& config) {
  try {
    config.resolved(0);
    return "accepted";
  } catch (const UserError& error) {
    return error.what();
  }
}

TEST_F(Seer, RefusesWhatItCannot) {
  for (const char* learn : {"end_to_end", "both"}) {
    ModelConfig config = seer_config();
    config.sparsity.learn = learn;
    EXPECT_EQ(refusal(config), str("sparsity.learn = ", learn,
                                   ": allowed for model.mechanism = seer: auto, distill, none"));
  }
  ModelConfig config = seer_config();
  config.sparsity.gate_dim = 4;
  EXPECT_EQ(refusal(config),
            "sparsity.gate_dim = 4: seer compares pooled queries as they are, so its gate has the "
            "head's width; leave it 0");
  TinyModel tiny(seer_config(), mesh_);
  DecodeCache cache = tiny.model.make_cache(tiny.execution, kSequence);
  try {
    tiny.model.decode(tiny.execution, tokens_.rows(0, 20), cache);
    FAIL() << "generated";
  } catch (const UserError& error) {
    EXPECT_EQ(std::string(error.what()).find("model.mechanism = seer cannot generate: "), 0u);
  }
}

}  // namespace
}  // namespace filigree
