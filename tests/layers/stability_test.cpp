// QK-norm, output gate and sigmaReparam: functions, layers and the model that has them.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "layers/functional/sigma_reparam.hpp"
#include "layers/sparsity/registry.hpp"
#include "tests/harness/bits.hpp"
#include "tests/harness/tiny_model.hpp"

namespace filigree {
namespace {

using testing::gradcheck;
using testing::random_ids;
using testing::random_tensor;
using testing::same_bits;
using testing::sequences;
using testing::tiny_config;
using testing::TinyModel;

Variable leaf(const Shape& shape, std::uint64_t stream, const Placements& placements = {}) {
  return Variable(random_tensor(shape, stream), placements, true);
}

Placements on_tensor(Placement placement) { return Placements().with(Axis::tensor, placement); }

ModelConfig stable_config() {
  ModelConfig config = tiny_config();
  config.qk_norm = true;
  config.output_gate = true;
  config.sigma_reparam = "all";
  return config;
}

class Stability : public ::testing::Test {
 protected:
  double loss_of(TinyModel& tiny) const {
    Tape tape(tiny.execution, Tape::Mode::inference);
    return *tiny.model.loss_sum(tape, tokens_, targets_, sequences(2, 9)).value().data<double>();
  }
  void backward(TinyModel& tiny) const {
    Tape tape(tiny.execution);
    const Variable loss = tiny.model.loss_sum(tape, tokens_, targets_, sequences(2, 9));
    tape.backward(loss, Tensor::from<double>({}, std::array{1.0}).to(loss.value().dtype()));
  }

  Mesh mesh_{self_communicator("world"), {}};
  Tensor tokens_ = random_ids(18, 13, 1), targets_ = random_ids(18, 13, 2);
};

TEST(Gradcheck, HeadRmsNorm) {
  gradcheck([](Tape& tape, auto in) { return head_rms_norm(tape, in[0], in[1], 1e-5); },
            {leaf({6, 8}, 1), leaf({4}, 2)});
}

TEST(Gradcheck, SigmoidGate) {
  gradcheck([](Tape& tape, auto in) { return sigmoid_gate(tape, in[0], in[1]); },
            {leaf({4, 6}, 1), leaf({4, 6}, 2)});
}

TEST(HeadRmsNorm, GivesEveryHeadUnitMeanSquare) {
  ExecutionContext execution;
  Tape tape(execution);
  const Variable x = leaf({5, 12}, 1, on_tensor(Placement::sharded(1)));
  const Variable w(Tensor::from<double>({4}, std::array{1.0, 1.0, 1.0, 1.0}),
                   on_tensor(Placement::replicated()), true);
  const Tensor y = head_rms_norm(tape, x, w, 0.0).value();
  for (std::int64_t head = 0; head < 15; ++head) {
    double sum = 0.0;
    for (std::int64_t k = 0; k < 4; ++k) sum += std::pow(y.data<double>()[head * 4 + k], 2);
    EXPECT_NEAR(sum / 4, 1.0, 1e-14);
  }
}

TEST(Placements, StabilityFunctionsRefuseMissingTransitions) {
  ExecutionContext execution;
  Tape tape(execution);
  const Variable x = leaf({4, 6}, 1, on_tensor(Placement::sharded(1)));
  const Variable partial = leaf({4, 6}, 1, on_tensor(Placement::partial()));
  EXPECT_THROW(head_rms_norm(tape, x, leaf({3}, 2), 1e-5), InternalError);
  EXPECT_THROW(rms_norm(tape, x, leaf({6}, 2, on_tensor(Placement::replicated())), 1e-5),
               InternalError);
  EXPECT_THROW(sigmoid_gate(tape, partial, partial), InternalError);
}

// The function takes u and v for constants; then sigma = u^T W v is linear in W.
TEST(Gradcheck, SigmaReparam) {
  const Mesh mesh(self_communicator("world"), {});
  const Tensor u = random_tensor({5}, 11), v = random_tensor({7}, 12);
  gradcheck(
      [&](Tape& tape, auto in) {
        const Tensor w = in[1].value();
        double sigma = 0.0;
        for (std::int64_t o = 0; o < 5; ++o)
          for (std::int64_t i = 0; i < 7; ++i)
            sigma += u.data<double>()[o] * w.data<double>()[o * 7 + i] * v.data<double>()[i];
        const auto number = [](double value) {
          return Tensor::from<double>({1}, std::array{value});
        };
        const double gamma = *in[2].value().template data<double>();
        const SpectralEstimate estimate{
            .u_O = u, .v_I = v, .sigma = number(sigma), .scale = number(gamma / sigma)};
        return sigma_reparam(tape, linear(tape, in[0], in[1]), in[1], in[2], estimate, mesh);
      },
      {leaf({6, 7}, 1), leaf({5, 7}, 2), leaf({1}, 3)});
}

// The largest singular value by so many iterations that any start converges, in f64.
double largest_singular_value(const Tensor& w) {
  const std::int64_t rows = w.dim(0), columns = w.dim(1);
  const auto* a = w.data<double>();
  std::vector<double> v(static_cast<std::size_t>(columns), 1.0), u(static_cast<std::size_t>(rows));
  double sigma = 0.0;
  for (int i = 0; i < 5000; ++i) {
    for (std::int64_t o = 0; o < rows; ++o) {
      u[o] = 0.0;
      for (std::int64_t c = 0; c < columns; ++c) u[o] += a[o * columns + c] * v[c];
    }
    std::fill(v.begin(), v.end(), 0.0);
    for (std::int64_t o = 0; o < rows; ++o)
      for (std::int64_t c = 0; c < columns; ++c) v[c] += a[o * columns + c] * u[o];
    double square = 0.0;
    for (const double x : v) square += x * x;
    sigma = std::sqrt(std::sqrt(square));
    for (double& x : v) x /= std::sqrt(square);
  }
  return sigma;
}

// A layer alone: y = x W^T on one rank.
struct OneLayer {
  OneLayer(std::int64_t outputs, std::int64_t inputs, const Mesh& mesh, DType dtype = DType::f64)
      : layer("layer", outputs, inputs, {.deviation = 0.02, .reparametrised = true}, mesh, store) {
    store.materialise(dtype, 3, execution);
    layer.weights_changed(WeightChange::initialised, execution);
  }
  double gamma() const { return *store.master_of(1).to(DType::f64).data<double>(); }
  ExecutionContext execution;
  ParameterStore store;
  ColumnParallelLinear layer;
};

TEST_F(Stability, SigmaStartsWithinOnePercentOfTheSpectralNorm) {
  for (const auto& [outputs, inputs] : {std::pair{96, 96}, {256, 64}, {40, 320}, {1, 9}, {7, 1}}) {
    OneLayer one(outputs, inputs, mesh_);
    const double exact = largest_singular_value(one.store.master_of(0));
    EXPECT_NEAR(one.gamma(), exact, 0.01 * exact) << outputs << " x " << inputs;
    EXPECT_LE(one.gamma(), exact * (1 + 1e-12)) << "no vector gives more";
  }
}

// After that one iteration per update is enough to follow a weight that changes slowly, and what
// the layer multiplies with has the spectral norm gamma.
TEST_F(Stability, PowerIterationFollowsTheWeight) {
  OneLayer one(48, 64, mesh_);
  const Tensor w = one.store.master_of(0), drift = random_tensor(w.shape(), 77, 0.002);
  for (int update = 0; update < 100; ++update) {
    for (std::int64_t i = 0; i < w.numel(); ++i) w.data<double>()[i] += drift.data<double>()[i];
    one.layer.weights_changed(WeightChange::updated, one.execution);
  }
  Tape tape(one.execution, Tape::Mode::inference);
  Tensor identity = Tensor::zeros({64, 64}, DType::f64);
  for (std::int64_t i = 0; i < 64; ++i) identity.data<double>()[i * 65] = 1.0;
  const Variable x(identity, Placements()
                                 .with(Axis::data, Placement::sharded(0))
                                 .with(Axis::tensor, Placement::replicated()));
  const double norm = largest_singular_value(one.layer.forward(tape, x).value());
  EXPECT_GT(largest_singular_value(w), 5 * one.gamma()) << "the weight did not move far";
  EXPECT_NEAR(norm, one.gamma(), 0.01 * one.gamma());
}

TEST_F(Stability, ModelWithSigmaReparamStartsAsTheOneWithout) {
  for (const char* scope : {"attention", "all"}) {
    TinyModel plain(tiny_config(), mesh_);
    ModelConfig config = tiny_config();
    config.sigma_reparam = scope;
    TinyModel reparametrised(config, mesh_);
    EXPECT_NEAR(loss_of(reparametrised), loss_of(plain), 1e-12 * loss_of(plain));
  }
}

TEST_F(Stability, ParameterCountIsTheConfigurations) {
  for (const char* scope : {"none", "attention", "all"}) {
    ModelConfig config = stable_config();
    config.sigma_reparam = scope;
    TinyModel tiny(config, mesh_);
    std::int64_t count = 0;
    for (const Parameter& parameter : tiny.store.parameters())
      if (parameter.trains) count += parameter.local_shape.numel();
    EXPECT_EQ(count, config.parameters()) << scope;
  }
}

TEST_F(Stability, WholeModelGradientMatchesCentralDifferences) {
  TinyModel tiny(stable_config(), mesh_);
  backward(tiny);
  for (std::size_t i = 0; i < tiny.store.size(); ++i) {
    if (!tiny.store[i].trains) continue;
    const Tensor weights = tiny.store.master_of(i), saved = weights.clone();
    const Tensor direction = random_tensor(weights.shape(), 50 + i);
    const auto moved = [&](double amount) {
      for (std::int64_t e = 0; e < weights.numel(); ++e)
        weights.data<double>()[e] = saved.data<double>()[e] + amount * direction.data<double>()[e];
      // sigma again, with u as it is
      tiny.model.weights_changed(WeightChange::loaded, tiny.execution);
      return loss_of(tiny);
    };
    const double numeric = (moved(1e-5) - moved(-1e-5)) / 2e-5;
    moved(0.0);
    const double analytic = testing::dot(tiny.store.variable(i).gradient(), direction);
    EXPECT_NEAR(numeric, analytic, 1e-6 * std::max(1.0, std::abs(numeric))) << tiny.store[i].name;
  }
}

TEST_F(Stability, DecodingTokenByTokenGivesTheLogitsOfTheWholeSequence) {
  TinyModel tiny(stable_config(), mesh_);
  const Tensor tokens = random_ids(9, 13, 1);
  DecodeCache cache = tiny.model.make_cache(tiny.execution, 9);
  for (std::int64_t i = 0; i < 9; ++i) {
    const Tensor logits = tiny.model.decode(tiny.execution, tokens.rows(i, i + 1), cache);
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

TEST_F(Stability, RecomputeGivesBitEqualGradients) {
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    Tensor reference;
    for (const char* policy : {"none", "attention", "block"}) {
      ModelConfig config = stable_config();
      config.recompute = policy;
      TinyModel tiny(config, mesh_, dtype);
      backward(tiny);
      if (!reference.defined()) reference = tiny.store.gradient().clone();
      EXPECT_EQ(std::memcmp(reference.raw(), tiny.store.gradient().raw(),
                            static_cast<std::size_t>(reference.bytes())),
                0)
          << policy << " " << name_of(dtype);
    }
  }
}

// What evaluation of a checkpoint and a resumed run rely on: sigma follows from weight and u alone.
TEST_F(Stability, LoadedParametersGiveTheBitsOfTheRunThatSavedThem) {
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    TinyModel saved(stable_config(), mesh_, dtype), loaded(stable_config(), mesh_, dtype, 99);
    const auto train = [&](TinyModel& tiny) {
      for (int update = 0; update < 3; ++update) {
        tiny.store.clear_gradients();
        backward(tiny);
        const Tensor master = tiny.store.master(), gradient = tiny.store.gradient();
        for (std::int64_t i = 0; i < gradient.numel(); ++i)
          if (dtype == DType::f64)
            master.data<double>()[i] -= 1e-3 * gradient.data<double>()[i];
          else
            master.data<float>()[i] -= 1e-3f * gradient.data<float>()[i];
        tiny.store.refresh_compute(tiny.execution);
        tiny.model.weights_changed(WeightChange::updated, tiny.execution);
      }
    };
    const auto same_bits = [&] {
      return std::memcmp(saved.store.master().raw(), loaded.store.master().raw(),
                         static_cast<std::size_t>(saved.store.master().bytes())) == 0;
    };
    train(saved);
    EXPECT_FALSE(same_bits());
    loaded.store.master().copy_from(saved.store.master());
    loaded.store.refresh_compute(loaded.execution);
    loaded.model.weights_changed(WeightChange::loaded, loaded.execution);
    train(saved);
    train(loaded);
    EXPECT_TRUE(same_bits()) << name_of(dtype);
  }
}

// What a dense model reports of itself, against the softmax written out.
TEST_F(Stability, EntropyAndLargestLogitAreThoseOfTheAttentionMap) {
  constexpr std::int64_t kBatch = 2, kLength = 12, kHeads = 4, kGroups = 2, kDim = 6;
  ModelConfig config = tiny_config();
  config.sparsity.query_group = 4;
  config.sparsity.distill_share = 1.0;
  ParameterStore store;
  const auto dense = make_mechanism({"attention", 0, config, mesh_, store});
  std::vector<LayerStatistics> layers(1);
  BatchInfo batch = sequences(kBatch, kLength);
  batch.statistics = &layers;
  const Variable q(random_tensor({kBatch * kLength, kHeads * kDim}, 1, 2.0), {}),
      k(random_tensor({kBatch * kLength, kGroups * kDim}, 2), {});
  const AttentionShape shape{.batch = kBatch,
                             .query_length = kLength,
                             .key_length = kLength,
                             .query_heads = kHeads,
                             .kv_heads = kGroups,
                             .head_dim = kDim,
                             .scale = 0.4};
  ExecutionContext execution;
  Tape tape(execution, Tape::Mode::inference);
  dense->attend(tape, {.x_TD = q,
                       .q_THK = q,
                       .k_TGK = k,
                       .v_TGK = k,
                       .q_raw_THK = q,
                       .k_raw_TGK = k,
                       .shape = shape,
                       .batch = batch});

  double entropy = 0.0, largest = -INFINITY;
  for (std::int64_t b = 0; b < kBatch; ++b)
    for (std::int64_t h = 0; h < kHeads; ++h)
      for (std::int64_t i = 0; i < kLength; ++i) {
        std::vector<double> logits;
        for (std::int64_t j = 0; j <= i; ++j) {
          const auto* query =
              q.value().data<double>() + (b * kLength + i) * kHeads * kDim + h * kDim;
          const auto* key = k.value().data<double>() + (b * kLength + j) * kGroups * kDim +
                            h / (kHeads / kGroups) * kDim;
          double logit = 0.0;
          for (std::int64_t d = 0; d < kDim; ++d) logit += 0.4 * query[d] * key[d];
          logits.push_back(logit);
          largest = std::max(largest, logit);
        }
        double sum = 0.0;
        for (const double logit : logits) sum += std::exp(logit);
        if (i == 0) continue;  // one key: its entropy counts as 0
        for (const double logit : logits)
          entropy -= std::exp(logit) / sum * (logit - std::log(sum)) /
                     std::log(static_cast<double>(i + 1));
      }
  EXPECT_NEAR(layers[0].mean_entropy(), entropy / (kBatch * kHeads * kLength), 1e-12);
  EXPECT_NEAR(layers[0].largest_logit, largest, 1e-12);
  EXPECT_EQ(layers[0].density(), 1.0);
}

TEST_F(Stability, UnknownScopeIsRefused) {
  ModelConfig config = tiny_config();
  config.sigma_reparam = "heads";
  try {
    config.resolved(0);
    FAIL() << "accepted";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("model.sigma_reparam = heads"), std::string::npos);
  }
}

}  // namespace
}  // namespace filigree
