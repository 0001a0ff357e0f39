#include "runtime/training/optimizer.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>

#include "tests/harness/tiny_model.hpp"
#include "tests/training/on_mesh.hpp"

namespace filigree {
namespace {

using testing::grid;
using testing::on_mesh;
using testing::tiny_config;

Parameter vector_parameter(const std::string& name, std::int64_t size, bool decays) {
  Parameter parameter;
  parameter.name = name;
  parameter.global_shape = parameter.local_shape = Shape{size};
  parameter.offset = {0};
  parameter.decays = decays;
  parameter.initialisation.deviation = 1.0;
  return parameter;
}

// One update, clipped to a norm of 1 as if the gradient had this one.
void update(AdamWOptimizer& optimizer, double learning_rate, double norm,
            ExecutionContext& context) {
  const StepTotals totals(context);
  totals.squares().data<double>()[0] = norm * norm;
  optimizer.update(Tensor::from<double>({1}, std::array{learning_rate}), totals, context);
}

TEST(ParameterRuns, JoinNeighboursThatAreTreatedAlike) {
  ParameterStore store;
  ExecutionContext context;
  store.add(vector_parameter("a", 3, true));
  store.add(vector_parameter("b", 16, true));
  store.add(vector_parameter("c", 5, false));
  store.add(vector_parameter("d", 2, true));
  store.materialise(DType::f64, 1, context);
  const auto runs = parameter_runs(store, [](const Parameter& p) { return p.decays; });
  const std::vector<ParameterRun> expected = {{0, 32, true}, {32, 37, false}, {48, 50, true}};
  EXPECT_EQ(runs, expected);
}

TEST(AdamWOptimizer, FollowsTheFormulaAndDecaysOnlyWhereAsked) {
  ParameterStore store;
  ExecutionContext context;
  store.add(vector_parameter("weight", 3, true));
  store.add(vector_parameter("norm", 2, false));
  store.materialise(DType::f64, 1, context);
  OptimizerConfig config;
  config.weight_decay = 0.5;
  AdamWOptimizer optimizer(config, store, context);
  const Tensor before = store.master().clone();
  const auto gradient = [](std::int64_t i, int step) {
    return 0.3 * static_cast<double>(i % 5 + 1) - step;
  };

  for (int step = 1; step <= 2; ++step) {
    for (std::int64_t i = 0; i < store.gradient().numel(); ++i)
      store.gradient().data<double>()[i] = 0.0;
    for (std::size_t p = 0; p < store.size(); ++p)
      for (std::int64_t i = store.begin(p); i < store.end(p); ++i)
        store.gradient().data<double>()[i] = gradient(i, step);
    update(optimizer, 0.1, 4.0, context);
  }

  for (std::size_t p = 0; p < store.size(); ++p)
    for (std::int64_t i = store.begin(p); i < store.end(p); ++i) {
      double w = before.data<double>()[i], m = 0, v = 0;
      for (int step = 1; step <= 2; ++step) {
        const double g = 0.25 * gradient(i, step);
        m = 0.9 * m + 0.1 * g;
        v = 0.95 * v + 0.05 * g * g;
        const double direction =
            (m / (1 - std::pow(0.9, step))) / (std::sqrt(v / (1 - std::pow(0.95, step))) + 1e-8);
        w -= 0.1 * (direction + (p == 0 ? 0.5 : 0.0) * w);
      }
      EXPECT_NEAR(store.master().data<double>()[i], w, 1e-14) << store[p].name << " element " << i;
    }
  EXPECT_EQ(optimizer.updates(context), 2);
}

// Frozen parameters lie behind those that train, whatever the order of registration, and have no
// room in the gradient and the moments.
TEST(AdamWOptimizer, LeavesFrozenParametersAlone) {
  ParameterStore store;
  ExecutionContext context;
  for (const char* name : {"a", "b", "c", "d"}) store.add(vector_parameter(name, 5, true));
  store.freeze([](const Parameter& p) { return p.name == "a" || p.name == "c"; });
  store.materialise(DType::bf16, 1, context);
  EXPECT_EQ(store.begin(1), 0);
  EXPECT_EQ(store.begin(3), 16);
  EXPECT_EQ(store.begin(0), 32);
  EXPECT_EQ(store.begin(2), 48);
  EXPECT_EQ(store.gradient().numel(), 32);
  EXPECT_FALSE(store.variable(0).requires_gradient());
  EXPECT_EQ(store.trained_variables().size(), 2U);

  AdamWOptimizer optimizer({}, store, context);
  EXPECT_EQ(optimizer.first_moment().numel(), 32);
  const Tensor before = store.master().clone(), rounded = store.compute().clone();
  for (float& value : store.gradient().span<float>()) value = 0.5F;
  update(optimizer, 0.1, 1.0, context);
  for (std::size_t p = 0; p < store.size(); ++p)
    for (std::int64_t i = store.begin(p); i < store.end(p); ++i) {
      const bool same = store.master().data<float>()[i] == before.data<float>()[i];
      EXPECT_EQ(same, p == 0 || p == 2) << store[p].name << " element " << i;
      EXPECT_EQ(static_cast<float>(store.compute().data<BFloat16>()[i]) ==
                    static_cast<float>(rounded.data<BFloat16>()[i]),
                same);
    }
}

TEST(AdamWOptimizer, RoundsTheBf16CopyFromTheMasterWeights) {
  ParameterStore store;
  ExecutionContext context;
  store.add(vector_parameter("weight", 19, true));
  store.materialise(DType::bf16, 3, context);
  AdamWOptimizer optimizer(OptimizerConfig{}, store, context);
  for (float& g : store.gradient().span<float>()) g = 0.0f;
  for (std::int64_t i = 0; i < 19; ++i)
    store.gradient().data<float>()[i] = static_cast<float>(i) - 9.5f;
  update(optimizer, 0.05, 1.0, context);
  for (std::int64_t i = 0; i < 19; ++i)
    EXPECT_EQ(store.compute().data<BFloat16>()[i].bits,
              BFloat16(store.master().data<float>()[i]).bits)
        << i;
}

TEST(AdamWOptimizer, LeavesEverythingWhereTheLossIsNotFinite) {
  ParameterStore store;
  ExecutionContext context;
  store.add(vector_parameter("weight", 19, true));
  store.materialise(DType::bf16, 3, context);
  AdamWOptimizer optimizer(OptimizerConfig{}, store, context);
  for (float& g : store.gradient().span<float>()) g = 1.0F;
  const Tensor before = store.master().clone();
  const StepTotals totals(context);
  *totals.loss().data<double>() = std::numeric_limits<double>::infinity();
  optimizer.update(Tensor::from<double>({1}, std::array{0.1}), totals, context);
  EXPECT_TRUE(std::isnan(totals.read(context).model_norm));
  EXPECT_EQ(optimizer.updates(context), 0);
  for (std::int64_t i = 0; i < 19; ++i) {
    EXPECT_EQ(store.master().data<float>()[i], before.data<float>()[i]);
    EXPECT_EQ(optimizer.first_moment().data<float>()[i], 0.0F);
  }
}

// Every element of the global gradient gets the same value on whatever rank holds it.
void fill_gradient(const ParameterStore& store) {
  for (std::size_t p = 0; p < store.size(); ++p) {
    const Parameter& parameter = store[p];
    const Philox random(5, RandomPurpose::test, hash_text(parameter.name));
    const bool matrix = parameter.global_shape.rank() == 2;
    const std::int64_t columns = parameter.local_shape[-1],
                       global_columns = parameter.global_shape[-1];
    for (std::int64_t i = 0; i < parameter.local_shape.numel(); ++i) {
      const std::int64_t row = i / columns + (matrix ? parameter.offset[0] : 0);
      const std::int64_t column = i % columns + parameter.offset.back();
      store.gradient().data<double>()[store.begin(p) + i] =
          random.normal(static_cast<std::uint64_t>(row * global_columns + column));
    }
  }
}

ModelConfig gated_config() {
  ModelConfig config = tiny_config();
  config.mechanism = "adaptive";
  config.sparsity.key_block = config.sparsity.query_group = 16;
  config.sequence = 64;
  config.sparsity.head_gate = true;
  return config.resolved(0);
}

// The sums of squares on every rank of a layout: of the model, its gates, and what others hold.
std::vector<std::array<double, 3>> squares(int data, int tensor, int poisoned_rank = -1) {
  std::vector<std::array<double, 3>> result(static_cast<std::size_t>(data * tensor));
  on_mesh(grid(data, tensor), [&](const Mesh& mesh) {
    ExecutionContext context;
    ParameterStore store;
    const LanguageModel model(gated_config(), mesh, store);
    store.materialise(DType::f64, 1, context);
    fill_gradient(store);
    if (mesh.world().rank() == poisoned_rank)
      store.gradient().data<double>()[store.end(store.size() - 1) - 1] =
          std::numeric_limits<double>::infinity();
    const Tensor sums = context.zeros({3}, DType::f64);
    add_gradient_squares(store, mesh, sums, context);
    std::copy_n(sums.data<double>(), 3,
                result[static_cast<std::size_t>(mesh.world().rank())].begin());
  });
  return result;
}

TEST(GradientSquares, CountEveryElementOnceOnAnyLayout) {
  double model_sum = 0.0, gate_sum = 0.0;
  on_mesh(grid(1, 1), [&](const Mesh& mesh) {
    ExecutionContext context;
    ParameterStore store;
    const LanguageModel model(gated_config(), mesh, store);
    store.materialise(DType::f64, 1, context);
    fill_gradient(store);
    for (std::size_t p = 0; p < store.size(); ++p)
      for (const double g : store.slice(store.gradient(), p).span<double>())
        (store[p].gate ? gate_sum : model_sum) += g * g;
  });
  EXPECT_GT(gate_sum, 0.0);
  for (const auto& [data, tensor] : {std::pair{1, 1}, {2, 1}, {1, 2}, {2, 2}, {1, 4}}) {
    SCOPED_TRACE(str("data ", data, ", tensor ", tensor));
    const auto all = squares(data, tensor);
    EXPECT_NEAR(all[0][0], model_sum, 1e-13 * model_sum);
    EXPECT_NEAR(all[0][1], gate_sum, 1e-13 * gate_sum);
    for (const auto& sums : all) EXPECT_EQ(sums, all[0]);
  }
}

TEST(GradientSquares, AreNotFiniteAnywhereWhenOneRankHoldsInfinity) {
  for (int rank = 0; rank < 4; ++rank)
    for (const auto& sums : squares(2, 2, rank))
      EXPECT_FALSE(std::isfinite(sums[0] + sums[1] + sums[2])) << "poisoned rank " << rank;
}

}  // namespace
}  // namespace filigree
