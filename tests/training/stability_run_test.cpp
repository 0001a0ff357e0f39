// What the stability options are for: a run at a learning rate that is far too high for the plain
// model.
#include <gtest/gtest.h>

#include "tests/layout/layout_equivalence.hpp"
#include "tests/training/on_mesh.hpp"

namespace filigree {
namespace {

// All layers together, as measured in the last of 40 steps.
LayerStatistics after_training(const std::function<void(ModelConfig&)>& change) {
  RunConfig config = testing::layout_config();
  config.model.initial_deviation = 0.1;
  config.model.sequence = 24;
  config.model.sparsity.query_group = 4;
  config.model.sparsity.distill_share = 1.0;
  change(config.model);
  config.train.dtype = "f32";
  config.train.steps = 40;
  config.optimizer.learning_rate = 0.3;
  config.optimizer.clip_norm = 1.0;
  config.schedule.kind = "constant";
  LayerStatistics all;
  testing::on_mesh(testing::grid(1, 1), [&](const Mesh& mesh) {
    TrainingEngine engine(config, mesh, {});
    testing::SyntheticSource source(config, batch_share(config.train.batch, mesh));
    StepResult result;
    for (std::int64_t step = 1; step <= config.train.steps; ++step)
      result = engine.step(source, step, step == config.train.steps);
    for (const LayerStatistics& layer : result.layers) all.add(layer);
  });
  return all;
}

TEST(StabilityRun, EntropyCollapsesWithoutAndHoldsWithSigmaReparamOrQkNorm) {
  const LayerStatistics plain = after_training([](ModelConfig&) {});
  const LayerStatistics sigma =
      after_training([](ModelConfig& model) { model.sigma_reparam = "attention"; });
  const LayerStatistics norm = after_training([](ModelConfig& model) { model.qk_norm = true; });
  EXPECT_LT(plain.mean_entropy(), 0.02);
  EXPECT_GT(plain.largest_logit, 500.0);
  for (const LayerStatistics& stable : {sigma, norm}) {
    EXPECT_GT(stable.mean_entropy(), 0.1);
    EXPECT_LT(stable.largest_logit, 150.0);
  }
}

}  // namespace
}  // namespace filigree
