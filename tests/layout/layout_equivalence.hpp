// Trains the same tiny model on one rank and on a grid, in f64, and compares everything.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "runtime/training/training_engine.hpp"
#include "tests/harness/tiny_model.hpp"

namespace filigree {

// How GoogleTest prints a parameter.
inline void PrintTo(const MeshShape& shape, std::ostream* out) { *out << shape.name(); }

namespace testing {

// Rows of the step's batch as a pure function of (step, row): the same on every layout.
class SyntheticSource final : public MicroBatchSource {
 public:
  SyntheticSource(const RunConfig& config, ShardRange share)
      : config_(config), share_(share), rows_(micro_batch_rows(config.train, share)) {}

  std::int64_t micro_batches() const override { return (share_.size() + rows_ - 1) / rows_; }

  TokenBatch next() override {
    const std::int64_t begin = share_.begin + next_ % micro_batches() * rows_;
    const std::int64_t step = next_++ / micro_batches();
    TokenBatch batch;
    batch.batch = std::min(rows_, share_.end - begin);
    batch.length = config_.model.sequence;
    batch.first_sample = step * config_.train.batch + begin;
    const std::int64_t tokens = batch.batch * batch.length;
    batch.tokens_T = Tensor::empty({tokens}, DType::i32);
    batch.targets_T = Tensor::empty({tokens}, DType::i32);
    for (std::int64_t row = 0; row < batch.batch; ++row) {
      const auto sample = static_cast<std::uint64_t>(batch.first_sample + row);
      const Tensor ids = random_ids(batch.length + 1, config_.model.vocabulary, 7000 + sample);
      for (std::int64_t i = 0; i < batch.length; ++i) {
        batch.tokens_T.data<std::int32_t>()[row * batch.length + i] = ids.data<std::int32_t>()[i];
        batch.targets_T.data<std::int32_t>()[row * batch.length + i] =
            ids.data<std::int32_t>()[i + 1];
      }
    }
    return batch;
  }

 private:
  RunConfig config_;
  ShardRange share_;
  std::int64_t rows_;
  std::int64_t next_ = 0;
};

inline RunConfig layout_config() {
  RunConfig config;
  config.model = tiny_config();
  config.model.dropout = 0.1;
  config.train.dtype = "f64";
  config.train.steps = 3;
  config.train.batch = 5;  // divides by neither 2 nor 4
  config.train.micro_batch = 2;
  config.schedule.warmup_steps = 1;
  config.optimizer.learning_rate = 0.01;
  config.optimizer.clip_norm =
      0.5;  // below the norms met here: clipping is part of what is compared
  return config;
}

// The slice of the global tensor `whole` that `part` owns, element by element.
template <class Visit>
void for_each_owned(const Parameter& part, const Tensor& whole, Visit&& visit) {
  const Shape& local = part.local_shape;
  const std::int64_t rows = local.rank() == 2 ? local[0] : 1, columns = local[-1];
  const std::int64_t first_row = local.rank() == 2 ? part.offset[0] : 0;
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < columns; ++c)
      visit(r * columns + c,
            whole.data<double>()[(first_row + r) * part.global_shape[-1] + part.offset.back() + c]);
}

inline void expect_slices(const char* what, const TrainingEngine& grid, const Tensor& grid_flat,
                          const TrainingEngine& single, const Tensor& single_flat) {
  const ParameterStore &mine = grid.parameters(), &all = single.parameters();
  ASSERT_EQ(mine.size(), all.size());
  for (std::size_t i = 0; i < mine.size(); ++i) {
    if (mine.end(i) > grid_flat.numel()) continue;  // a gradient of what does not train
    const Tensor local = mine.slice(grid_flat, i), whole = all.slice(single_flat, i);
    double size = 0.0;
    for (const double value : whole.span<double>()) size = std::max(size, std::abs(value));
    for_each_owned(mine[i], whole, [&](std::int64_t element, double expected) {
      ASSERT_NEAR(local.data<double>()[element], expected, 1e-10 * std::max(size, 1e-3))
          << what << " of " << mine[i].name << " on " << grid.mesh().describe();
    });
  }
}

// Loss, gradient norm and every gradient at each of three steps, and the parameters after them,
// agree to 1e-10. Collective over `world`, whose size is shape.world().
inline void expect_same_as_one_rank(std::shared_ptr<Communicator> world, const MeshShape& shape,
                                    const RunConfig& config) {
  const Mesh mesh(std::move(world), shape);
  const Mesh alone(self_communicator("world"), {});
  TrainingEngine grid(config, mesh, {}), single(config, alone, {});
  SyntheticSource grid_source(config, batch_share(config.train.batch, mesh));
  SyntheticSource single_source(config, batch_share(config.train.batch, alone));
  for (std::int64_t step = 1; step <= config.train.steps; ++step) {
    const StepResult expected = single.step(single_source, step);
    const StepResult actual = grid.step(grid_source, step);
    ASSERT_FALSE(expected.skipped);
    EXPECT_NEAR(actual.loss, expected.loss, 1e-10 * expected.loss) << shape.name();
    EXPECT_NEAR(actual.gradient_norm, expected.gradient_norm, 1e-10 * expected.gradient_norm);
    expect_slices("gradient", grid, grid.parameters().gradient(), single,
                  single.parameters().gradient());
  }
  expect_slices("value", grid, grid.parameters().master(), single, single.parameters().master());
}

// A gate for each of four heads, one of them dense, on two key/value heads, which four tensor ranks
// share; warm-up, ramp and target density are met within the three steps.
inline RunConfig adaptive_layout_config(const std::string& learn) {
  RunConfig config = layout_config();
  config.model.mechanism = "adaptive";
  config.model.sequence = 100;
  config.model.sparsity.key_block = 16;
  config.model.sparsity.query_group = 16;
  config.model.sparsity.density = 0.8;
  config.model.sparsity.learn = learn;
  config.model.sparsity.distill_share = 0.5;
  config.model.sparsity.warmup_steps = 1;
  config.model.sparsity.ramp_steps = 2;
  config.model = config.model.resolved(0);
  return config;
}

inline std::vector<MeshShape> layout_grids() {
  return {{}, {.data = 2}, {.data = 4}, {.tensor = 2}, {.tensor = 4}, {.data = 2, .tensor = 2}};
}
inline std::string grid_name(const ::testing::TestParamInfo<MeshShape>& info) {
  return str("dp", info.param.data, "tp", info.param.tensor);
}

// Every variant of the model that treats placements differently.
inline std::vector<RunConfig> layout_configs() {
  std::vector<RunConfig> configs(3, layout_config());
  configs[1].model.tied_embeddings = false;
  configs[1].model.recompute = "block";
  configs[2].model.kv_heads = 4;
  configs[2].model.recompute = "attention";
  configs.push_back(adaptive_layout_config("both"));
  configs.push_back(adaptive_layout_config("end_to_end"));
  configs.back().model.recompute = "block";
  configs.push_back(adaptive_layout_config("none"));
  configs.back().model.sparsity.query_group = 3;
  configs.push_back(adaptive_layout_config("end_to_end"));
  configs.back().model.sparsity.head_gate = true;
  configs.back().model.sparsity.head_threshold = 0.55;
  configs.push_back(adaptive_layout_config("auto"));
  configs.back().model.mechanism = "seer";
  configs.push_back(layout_config());
  configs.back().model.mechanism = "deepspeed_bigbird";  // differs from head to head
  configs.back().model.sequence = 70;
  configs.back().model.sparsity.key_block = 16;
  configs.push_back(layout_config());
  configs.back().model.qk_norm = true;
  configs.back().model.output_gate = true;
  configs.back().model.qkv_bias = true;
  configs.push_back(layout_config());
  configs.back().model.sigma_reparam = "all";
  configs.back().model.qkv_bias = true;  // which the factor does not scale
  configs.push_back(adaptive_layout_config("end_to_end"));
  configs.back().model.qk_norm = true;
  configs.back().model.output_gate = true;
  configs.back().model.sigma_reparam = "attention";
  configs.back().model.recompute = "block";
  return configs;
}

}  // namespace testing
}  // namespace filigree
