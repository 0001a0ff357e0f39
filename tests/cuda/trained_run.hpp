// A run on one rank, and what came of it.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/cuda/fresh_gpu.hpp"
#include "tests/layout/layout_equivalence.hpp"

namespace filigree::testing {

struct TrainedRun {
  std::vector<StepResult> steps;
  WorkLog work;
  Tensor before, parameters;  // on the host
};

inline TrainedRun train(const RunConfig& config, const ExecutionContext& context) {
  const Mesh mesh(self_communicator("world"), {});
  TrainingEngine engine(config, mesh, context);
  SyntheticSource source(config, batch_share(config.train.batch, mesh));
  TrainedRun run;
  run.before = engine.context().download(engine.parameters().master()).clone();
  for (std::int64_t step = 1; step <= config.train.steps; ++step)
    run.steps.push_back(engine.step(source, step, step == config.train.steps));
  run.work = engine.context().work;
  run.parameters = engine.context().download(engine.parameters().master());
  return run;
}

inline TrainedRun train_on_gpu(const RunConfig& config, std::uint64_t seed) {
  return train(config, fresh_gpu(seed));
}

}  // namespace filigree::testing
