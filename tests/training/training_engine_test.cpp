#include "runtime/training/training_engine.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "tests/layout/layout_equivalence.hpp"
#include "tests/training/on_mesh.hpp"

namespace filigree {
namespace {

using testing::grid;
using testing::layout_config;
using testing::on_mesh;
using testing::SyntheticSource;

// Results of the first steps, as rank 0 sees them; every rank must see the same bits.
std::vector<StepResult> train_steps(const RunConfig& config, const MeshShape& shape) {
  std::vector<std::vector<StepResult>> by_rank(static_cast<std::size_t>(shape.world()));
  on_mesh(shape, [&](const Mesh& mesh) {
    TrainingEngine engine(config, mesh, {});
    SyntheticSource source(config, batch_share(config.train.batch, mesh));
    auto& results = by_rank[static_cast<std::size_t>(mesh.world().rank())];
    for (std::int64_t step = 1; step <= config.train.steps; ++step)
      results.push_back(engine.step(source, step));
  });
  for (const auto& results : by_rank)
    for (std::size_t i = 0; i < results.size(); ++i) {
      EXPECT_EQ(results[i].loss, by_rank[0][i].loss) << shape.name();
      EXPECT_EQ(results[i].gradient_norm, by_rank[0][i].gradient_norm) << shape.name();
    }
  return by_rank[0];
}

RunConfig config_of(const std::string& dtype, std::int64_t steps) {
  RunConfig config = layout_config();
  config.train.dtype = dtype;
  config.train.steps = steps;
  return config;
}

TEST(TrainingEngine, LossCurveInF32IsTheSameOnAnyLayoutWithinRounding) {
  const RunConfig config = config_of("f32", 8);
  const auto alone = train_steps(config, grid(1, 1));
  EXPECT_GT(std::abs(alone.back().loss - alone.front().loss), 1e-3) << "nothing was learned";
  for (const MeshShape& shape : {grid(2, 1), grid(1, 2), grid(2, 2)}) {
    const auto results = train_steps(config, shape);
    for (std::size_t i = 0; i < alone.size(); ++i)
      EXPECT_NEAR(results[i].loss, alone[i].loss, 2e-5 * alone[i].loss)
          << shape.name() << " step " << i + 1;
  }
}

TEST(TrainingEngine, MeasuringIsNoWork) {
  RunConfig config = config_of("f32", 1);
  for (const std::string mechanism : {"dense", "adaptive"}) {
    config.model.mechanism = mechanism;
    config.model.sparsity.learn = mechanism == "dense" ? "auto" : "end_to_end";
    std::vector<std::int64_t> flops;
    for (const bool measure : {false, true}) {
      const Mesh mesh(self_communicator("world"), {});
      TrainingEngine engine(config, mesh, {});
      SyntheticSource source(config, batch_share(config.train.batch, mesh));
      engine.context().work = {};
      engine.step(source, 1, measure);
      const WorkLog& log = engine.context().work;
      flops.push_back(log.total().flops);
      EXPECT_EQ(log[WorkPart::teacher].work.flops, 0) << mechanism;
      EXPECT_EQ(log[WorkPart::gate].work.flops > 0, mechanism == "adaptive");
      EXPECT_GT(log[WorkPart::attention].work.flops, 0);
    }
    EXPECT_EQ(flops[0], flops[1]) << mechanism;
  }
}

TEST(TrainingEngine, Bf16FollowsTheF64Curve) {
  const auto exact = train_steps(config_of("f64", 6), grid(1, 1));
  const auto rounded = train_steps(config_of("bf16", 6), grid(1, 1));
  for (std::size_t i = 0; i < exact.size(); ++i) {
    EXPECT_NEAR(rounded[i].loss, exact[i].loss, 0.02 * exact[i].loss) << "step " << i + 1;
    EXPECT_NE(rounded[i].loss, exact[i].loss);
  }
}

TEST(TrainingEngine, MicroBatchesAddUpToTheBatch) {
  RunConfig config = config_of("f64", 3);
  config.train.micro_batch = 0;
  const auto whole = train_steps(config, grid(1, 1));
  for (const std::int64_t rows : {1, 2, 4}) {
    config.train.micro_batch = rows;
    const auto parts = train_steps(config, grid(1, 1));
    for (std::size_t i = 0; i < whole.size(); ++i) {
      EXPECT_NEAR(parts[i].loss, whole[i].loss, 1e-12 * whole[i].loss) << rows << " rows";
      EXPECT_NEAR(parts[i].gradient_norm, whole[i].gradient_norm, 1e-11 * whole[i].gradient_norm);
    }
  }
}

TEST(TrainingEngine, LossIsTheMeanOverAllTokensAlsoWithUnevenShares) {
  // 5 rows on 2 ranks: a mean of per-rank means would weigh the second rank's 2 rows like the first
  // one's 3.
  const RunConfig config = config_of("f64", 1);
  const auto alone = train_steps(config, grid(1, 1)), split = train_steps(config, grid(2, 1));
  EXPECT_NEAR(split[0].loss, alone[0].loss, 1e-13 * alone[0].loss);
}

// One rank's weight is infinite: its loss and gradients are, and every rank must leave its
// parameters alone.
TEST(TrainingEngine, SkipsANonFiniteStepOnEveryRank) {
  const RunConfig config = config_of("f32", 3);
  for (int poisoned = 0; poisoned < 4; ++poisoned)
    on_mesh(grid(2, 2), [&](const Mesh& mesh) {
      TrainingEngine engine(config, mesh, {});
      SyntheticSource source(config, batch_share(config.train.batch, mesh));
      EXPECT_FALSE(engine.step(source, 1).skipped);

      float& weight = engine.parameters().master().data<float>()[3];
      const float finite = weight;
      if (mesh.world().rank() == poisoned) weight = std::numeric_limits<float>::infinity();
      const Tensor before = engine.parameters().master().clone();
      const Tensor moment = engine.optimizer().first_moment().clone();
      EXPECT_TRUE(engine.step(source, 2).skipped) << "poisoned rank " << poisoned;
      const auto same = [](const Tensor& a, const Tensor& b) {
        return std::memcmp(a.raw(), b.raw(), static_cast<std::size_t>(a.bytes())) == 0;
      };
      EXPECT_TRUE(same(engine.parameters().master(), before));
      EXPECT_TRUE(same(engine.optimizer().first_moment(), moment));
      EXPECT_EQ(engine.optimizer().updates(engine.context()), 1);

      weight = finite;
      EXPECT_FALSE(engine.step(source, 3).skipped);
      EXPECT_EQ(engine.optimizer().updates(engine.context()), 2);
    });
}

TEST(BatchShare, RefusesMoreRanksThanTheBatchFeeds) {
  on_mesh(grid(4, 1), [](const Mesh& mesh) {
    EXPECT_EQ(batch_share(4, mesh).size(), 1);
    try {
      batch_share(3, mesh);
      ADD_FAILURE() << "3 sequences fed 4 ranks";
    } catch (const UserError& error) {
      EXPECT_NE(std::string(error.what()).find("train.batch is 3 sequences for 4"),
                std::string::npos);
    }
  });
}

}  // namespace
}  // namespace filigree
