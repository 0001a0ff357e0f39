#include "runtime/training/training_engine.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/elementwise/elementwise.hpp"
#include "runtime/core/trace.hpp"
#include "runtime/training/agreement.hpp"
#include "runtime/training/metrics.hpp"

namespace filigree {
namespace {

double tokens_per_step(const RunConfig& config) {
  return static_cast<double>(config.train.batch * config.model.sequence);
}

Tensor scalar_like(const Tensor& like, double value, const ExecutionContext& context) {
  const Tensor wide = Tensor::from<double>(like.shape(), std::array{value});
  return context.upload(wide.to(like.dtype()));
}

// Allocates and initialises before the optimizer and the reducer look at the buffers.
const ParameterStore& materialised(ParameterStore& store, const RunConfig& config,
                                   ExecutionContext& context) {
  if (config.train.only == "gates")
    store.freeze([](const Parameter& parameter) { return !parameter.gate; });
  store.materialise(dtype_from_name(config.train.dtype), config.train.seed, context);
  return store;
}

}  // namespace

ShardRange batch_share(std::int64_t batch, const Mesh& mesh) {
  const int ranks = mesh.size(Axis::data);
  if (batch < ranks)
    throw UserError(str("train.batch is ", batch, " sequences for ", ranks,
                        " data-parallel ranks; it must be at "
                        "least one per rank: start fewer ranks, raise train.batch to ",
                        ranks, " or split the model with parallel.tensor"));
  return shard_range(batch, ranks, mesh.coordinate(Axis::data));
}

std::int64_t micro_batch_rows(const TrainConfig& config, const ShardRange& share) {
  if (config.micro_batch < 0)
    throw UserError(str("train.micro_batch is ", config.micro_batch,
                        "; it must be 0 (the rank's whole share) or more"));
  return config.micro_batch == 0 ? share.size() : std::min(config.micro_batch, share.size());
}

double communication_seconds(const Mesh& mesh) {
  double seconds = mesh.world().statistics().seconds;
  for (const Axis axis : kAxes) seconds += mesh.on(axis).statistics().seconds;
  return seconds;
}

TrainingEngine::TrainingEngine(const RunConfig& config, const Mesh& mesh, ExecutionContext context,
                               Start start)
    : config_(config),
      mesh_(mesh),
      context_(std::move(context)),
      schedule_(config.schedule, config.optimizer.learning_rate, config.train.steps),
      model_(config.model, mesh, store_),
      optimizer_(config.optimizer, materialised(store_, config, context_), context_),
      reducer_(mesh, store_.trained_variables(), store_.gradient(), {}),
      totals_(context_) {
  const std::string& wanted = config.train.cuda_graph;
  if (wanted == "true" && !context_.stream)
    throw UserError(
        "train.cuda_graph = true, but a step on the CPU cannot be captured; auto captures where it "
        "can be done");
  if (wanted != "false" && context_.stream) replay_.emplace(context_);
  if (start == Start::now) parameters_initialised();
}

void TrainingEngine::parameters_initialised() {
  model_.weights_changed(WeightChange::initialised, context_);
}

void TrainingEngine::parameters_loaded() { model_.weights_changed(WeightChange::loaded, context_); }

StepResult TrainingEngine::step(MicroBatchSource& source, std::int64_t step, bool measure,
                                const std::function<void()>& before_update) {
  const TraceRange range("step");
  take_batches(source);
  const std::int64_t every = config_.train.check_lists;
  Observation observation{.measures = measure, .compares = every > 0 && step % every == 0};
  const auto enqueue = [&](const StepNumber& number) {
    enqueue_step(number, observation, before_update);
  };
  if (!replay_)
    enqueue(step);
  else if (observation.measures || observation.compares)
    replay_->run_once(step, enqueue);
  else
    replay_->run(step, enqueue);
  if (replay_) mesh_.world().watch_launched("captured step");

  const StepTotals::Values totals = totals_.read(context_);
  mesh_.world().throw_if_aborted();  // what has been read is a result of whole operations
  context_.settle_work();
  StepResult result;
  result.loss = totals.loss / tokens_per_step(config_);
  result.learning_rate = schedule_.rate(step);
  result.gradient_norm = std::hypot(totals.model_norm, totals.gate_norm);
  result.skipped = std::isnan(totals.model_norm);
  if (measure) result.layers = reduce_over_ranks(observation.layers, mesh_);
  return result;
}

void TrainingEngine::take_batches(MicroBatchSource& source) {
  const TraceRange range("data");
  batches_.clear();
  for (std::int64_t micro = 0; micro < source.micro_batches(); ++micro)
    batches_.push_back(source.next());
  // Uploaded once, and before the step: its memory is not theirs.
  for (const TokenBatch& batch : batches_) {
    Tensor& positions = positions_[batch.batch];
    if (!positions.defined())
      positions = context_.upload(sequential_positions(batch.batch, batch.length), MemoryUse::data);
  }
}

void TrainingEngine::enqueue_step(const StepNumber& step, Observation& observation,
                                  const std::function<void()>& before_update) {
  totals_.clear(context_);
  accumulate_gradients(step, observation);
  check_agreement(step, observation);
  // The tensor ranks of a data rank computed the same loss; the first one's bits are everybody's.
  mesh_.on(Axis::data).all_reduce(totals_.loss());
  mesh_.on(Axis::tensor).broadcast(totals_.loss(), 0);
  add_gradient_squares(store_, mesh_, totals_.squares(), context_);
  const Tensor rate = step.data(context_, [this](std::int64_t number) {
    return Tensor::from<double>({1}, std::array{schedule_.rate(number)});
  });
  if (before_update && !context_.stream) before_update();
  optimizer_.update(rate, totals_, context_);
  model_.weights_changed(WeightChange::updated, context_);
}

// Gradients of the mean loss over all tokens of the step, summed over ranks, in the store's
// buffers, and this rank's sum of losses.
void TrainingEngine::accumulate_gradients(const StepNumber& step, Observation& observation) {
  if (observation.measures)
    observation.layers.resize(static_cast<std::size_t>(config_.model.layers));
  store_.clear_gradients();
  Tape tape(context_);
  const std::size_t micro_steps = step.decide([this](std::int64_t) { return batches_.size(); });
  std::vector<LayerStatistics> measured;
  for (std::size_t micro = 0; micro < micro_steps; ++micro) {
    BatchInfo info;
    info.step = step;
    if (observation.compares) info.disagreement = &observation.disagreement;
    if (observation.measures) {
      measured.assign(observation.layers.size(), {});
      info.statistics = &measured;
    }
    const Variable loss = micro_step_loss(tape, micro, std::move(info));
    dispatch<Scale>({.x = loss.value(), .y = totals_.loss(), .accumulate = true}, context_);
    // Sums are complete, and can travel, only once the last micro-step has added its share.
    if (micro + 1 == micro_steps) reducer_.attach(tape);
    const TraceRange range("backward");
    tape.backward(loss, scalar_like(loss.value(), 1.0 / tokens_per_step(config_), context_));
    if (observation.measures) add_layers(observation.layers, measured);
  }
  reducer_.finish();
}

// Sum of losses over the tokens of one micro-batch of the step.
Variable TrainingEngine::micro_step_loss(Tape& tape, std::size_t micro, BatchInfo info) const {
  const TraceRange range("forward");
  const TokenBatch& batch = batches_[micro];
  info.batch = batch.batch;
  info.length = batch.length;
  info.positions_T = positions_.at(batch.batch);
  info.first_token = info.step.decide([this, micro](std::int64_t number) {
    const std::int64_t first_sample = (number - 1) * config_.train.batch;
    return (batches_[micro].first_sample - first_sample) * batches_[micro].length;
  });
  info.seed = config_.train.seed;
  info.training = true;
  info.global_batch = config_.train.batch;
  const auto at_hand = [&](Tensor TokenBatch::*tensor) {
    return info.step.data(context_,
                          [this, micro, tensor](std::int64_t) { return batches_[micro].*tensor; });
  };
  return model_.loss_sum(tape, at_hand(&TokenBatch::tokens_T), at_hand(&TokenBatch::targets_T),
                         info);
}

void TrainingEngine::check_agreement(const StepNumber& step, const Observation& observation) const {
  if (!observation.compares) return;
  agree(mesh_.world(), [&] {
    if (!observation.disagreement.empty())
      throw UserError(str("step ", step.once(), ": ", observation.disagreement,
                          "; nothing was updated: look for failing memory and for hosts of "
                          "different processors, then resume"));
  });
}

}  // namespace filigree
