// Training the gates of a frozen model: what moves, what it costs, and that layouts agree.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "runtime/training/agreement.hpp"
#include "tests/harness/bits.hpp"
#include "tests/layout/layout_equivalence.hpp"
#include "tests/training/on_mesh.hpp"

namespace filigree {
namespace {

using testing::adaptive_layout_config;
using testing::grid;
using testing::on_mesh;
using testing::same_bits;
using testing::SyntheticSource;

RunConfig gates_config(const std::string& learn, const std::string& only = "gates") {
  RunConfig config = adaptive_layout_config(learn);
  config.train.only = only;
  return config;
}

class Learning : public ::testing::TestWithParam<std::string> {};

TEST_P(Learning, MovesTheGatesAndNotOneBitOfTheRest) {
  for (const std::string dtype : {"f64", "f32", "bf16"})
    for (const std::string recompute : {"none", "attention", "block"}) {
      SCOPED_TRACE(dtype + ", recompute " + recompute);
      RunConfig config = gates_config(GetParam());
      config.train.dtype = dtype;
      config.model.recompute = recompute;
      const Mesh mesh(self_communicator("world"), {});
      TrainingEngine engine(config, mesh, {});
      const ParameterStore& store = engine.parameters();
      const Tensor master = store.master().clone(), compute = store.compute().clone();
      SyntheticSource source(config, batch_share(config.train.batch, mesh));
      for (std::int64_t step = 1; step <= config.train.steps; ++step)
        EXPECT_FALSE(engine.step(source, step).skipped);
      for (std::size_t i = 0; i < store.size(); ++i) {
        EXPECT_EQ(same_bits(store.master_of(i), store.slice(master, i)), !store[i].gate)
            << store[i].name;
        EXPECT_EQ(same_bits(store.slice(store.compute(), i), store.slice(compute, i)),
                  !store[i].gate)
            << store[i].name;
      }
    }
}

// The model's loss reaches the gates through the frozen layers above them, and the same bits arrive
// as when everything trains.
TEST_P(Learning, GivesGatesTheGradientThatTheyHaveAmongAll) {
  const Mesh mesh(self_communicator("world"), {});
  RunConfig config = gates_config(GetParam());
  config.model.sparsity.warmup_steps = 0;  // in which the model's loss does not reach them
  RunConfig everything = config;
  everything.train.only = "all";
  TrainingEngine gates(config, mesh, {}), all(everything, mesh, {});
  SyntheticSource source(config, batch_share(config.train.batch, mesh)), again = source;
  EXPECT_EQ(gates.step(source, 1).loss, all.step(again, 1).loss);
  const ParameterStore &some = gates.parameters(), &every = all.parameters();
  for (std::size_t i = 0; i < some.size(); ++i) {
    if (!some[i].gate) continue;
    const Tensor gradient = some.slice(some.gradient(), i);
    EXPECT_TRUE(same_bits(gradient, every.slice(every.gradient(), i))) << some[i].name;
    EXPECT_GT(testing::dot(gradient, gradient), 0.0) << some[i].name;
  }
}

INSTANTIATE_TEST_SUITE_P(Gates, Learning, ::testing::Values("distill", "end_to_end", "both"),
                         [](const auto& info) { return info.param; });

// Three steps with everything training; the parameters after them.
std::vector<std::pair<std::string, Tensor>> trained(const RunConfig& config) {
  const Mesh mesh(self_communicator("world"), {});
  TrainingEngine engine(config, mesh, {});
  SyntheticSource source(config, batch_share(config.train.batch, mesh));
  for (std::int64_t step = 1; step <= 3; ++step) EXPECT_FALSE(engine.step(source, step).skipped);
  const ParameterStore& store = engine.parameters();
  std::vector<std::pair<std::string, Tensor>> parameters;
  for (std::size_t i = 0; i < store.size(); ++i)
    if (!store[i].gate) parameters.emplace_back(store[i].name, store.master_of(i).clone());
  return parameters;
}

// Its gradient is clipped apart: however large, it does not shorten the model's steps.
TEST(Gates, OfDistillationLeaveTheModelToItsOwnLoss) {
  RunConfig quiet = gates_config("distill", "all"), loud = quiet;
  loud.model.sparsity.distill_weight = 1000.0;
  const auto expected = trained(quiet), actual = trained(loud);
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i)
    EXPECT_TRUE(same_bits(actual[i].second, expected[i].second)) << expected[i].first;
}

// In the warm-up everything is read and no gate has a say, whatever teaches it.
TEST(Gates, LeaveTheWarmUpToTheDenseModel) {
  RunConfig dense = gates_config("both", "all");
  dense.model.mechanism = "dense";
  const auto expected = trained(dense);
  for (const std::string learn : {"distill", "end_to_end", "both"}) {
    RunConfig warming_up = gates_config(learn, "all");
    warming_up.model.sparsity.warmup_steps = 3;
    const auto actual = trained(warming_up);
    ASSERT_EQ(actual.size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(actual[i].first, expected[i].first);
      for (std::int64_t e = 0; e < expected[i].second.numel(); ++e)
        ASSERT_NEAR(actual[i].second.data<double>()[e], expected[i].second.data<double>()[e], 1e-10)
            << learn << ", " << expected[i].first;
    }
  }
}

// With distillation alone the model only runs forward: a step costs what a forward pass costs, and
// what the gates' own gradients do, where training everything costs three times as much.
TEST(GatesOnly, DistillationRunsNoBackwardPassOfTheModel) {
  RunConfig config = gates_config("distill");
  config.model.feed_forward = 512;  // the model outweighs its gates
  config.train.micro_batch = 0;
  const Mesh mesh(self_communicator("world"), {});
  const auto flops_of_step = [&](const std::string& only) {
    config.train.only = only;
    TrainingEngine engine(config, mesh, {});
    SyntheticSource source(config, batch_share(config.train.batch, mesh));
    engine.step(source, 1);
    return static_cast<double>(engine.context().work.total().flops);
  };
  TrainingEngine engine(config, mesh, {});
  SyntheticSource source(config, batch_share(config.train.batch, mesh));
  const TokenBatch batch = source.next();
  engine.model().log_probabilities(engine.context(), batch.tokens_T, batch.targets_T,
                                   testing::sequences(batch.batch, batch.length));
  const auto forward = static_cast<double>(engine.context().work.total().flops);
  EXPECT_LT(flops_of_step("gates"), 1.15 * forward);
  EXPECT_GT(flops_of_step("all"), 2.9 * forward);
}

TEST(GatesOnly, AgreesWithOneRankOnAnyGrid) {
  for (const std::string learn : {"distill", "both"})
    for (const MeshShape& shape : testing::layout_grids())
      run_ranks(shape.world(), [&](std::shared_ptr<Communicator> world) {
        RunConfig config = gates_config(learn);
        config.train.check_lists = 1;
        testing::expect_same_as_one_rank(std::move(world), shape, config);
      });
}

// Neither statistics nor the comparison of choices touch what is trained.
TEST(SparseTraining, HasTheSameBitsWhetherItIsMeasuredOrNot) {
  for (const std::string dtype : {"f32", "bf16"})
    on_mesh(grid(2, 2), [&](const Mesh& mesh) {
      RunConfig config = gates_config("both", "all");
      config.train.dtype = dtype;
      RunConfig checked = config;
      config.train.check_lists = 0;
      checked.train.check_lists = 1;
      TrainingEngine plain(config, mesh, {}), measured(checked, mesh, {});
      SyntheticSource source(config, batch_share(config.train.batch, mesh)), again = source;
      for (std::int64_t step = 1; step <= config.train.steps; ++step) {
        const StepResult expected = plain.step(source, step, false);
        const StepResult result = measured.step(again, step, true);
        EXPECT_EQ(result.loss, expected.loss);
        EXPECT_EQ(result.gradient_norm, expected.gradient_norm);
        EXPECT_EQ(result.layers.size(), 2U);
      }
      EXPECT_TRUE(same_bits(measured.parameters().master(), plain.parameters().master()));
    });
}

// One tensor rank's copy of a norm differs by its last bit: every rank reports the same and nothing
// is updated.
TEST(GatesOnly, StopOnAllRanksWhereTensorRanksChooseFromDifferentInputs) {
  RunConfig config = gates_config("both");
  config.train.check_lists = 2;
  on_mesh(grid(2, 2), [&](const Mesh& mesh) {
    TrainingEngine engine(config, mesh, {});
    SyntheticSource source(config, batch_share(config.train.batch, mesh));
    const ParameterStore& store = engine.parameters();
    for (std::size_t i = 0; i < store.size(); ++i)
      if (store[i].name == "blocks.1.norm1.weight" && mesh.coordinate(Axis::tensor) == 1) {
        double& weight = *store.master_of(i).data<double>();
        weight = std::nextafter(weight, 2.0);
      }
    engine.step(source, 1);  // not checked
    const Tensor before = store.master().clone();
    try {
      engine.step(source, 2);
      ADD_FAILURE() << "accepted on " << mesh.describe();
    } catch (const AgreedError& error) {
      EXPECT_EQ(std::string(error.what()),
                "step 2: the input of layer 1 differs between tensor ranks 0 and 1; nothing was "
                "updated: look for failing memory and for hosts of different processors, then "
                "resume");
    }
    EXPECT_TRUE(same_bits(store.master(), before));
  });
}

std::string refusal(const RunConfig& config) {
  try {
    check_trained_part(config);
  } catch (const UserError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(GatesOnly, RefusesWhatLeavesNothingToLearn) {
  EXPECT_EQ(refusal(gates_config("distill")), "accepted");
  EXPECT_EQ(refusal(gates_config("none", "all")), "accepted");
  EXPECT_EQ(refusal(gates_config("none", "gate")), "train.only = gate: allowed: all, gates");
  EXPECT_EQ(refusal(gates_config("none")),
            "train.only = gates: with sparsity.learn = none nothing teaches the gates; choose "
            "sparsity.learn = distill");
  RunConfig dense = gates_config("end_to_end");
  dense.model.sparsity.density = 1.0;
  EXPECT_EQ(refusal(dense),
            "train.only = gates: with sparsity.learn = end_to_end and sparsity.density = 1 nothing "
            "teaches the gates; choose sparsity.learn = distill");
  dense.model.mechanism = "dense";
  EXPECT_EQ(refusal(dense),
            "train.only = gates: model.mechanism = dense has no gate to train; choose one that "
            "has, or train.only = all");
}

}  // namespace
}  // namespace filigree
