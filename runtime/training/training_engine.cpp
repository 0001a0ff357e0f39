#include "runtime/training/training_engine.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "runtime/training/agreement.hpp"
#include "runtime/training/metrics.hpp"

namespace filigree {
namespace {

double scalar(const Tensor& value, const ExecutionContext& context) {
  return *context.download(value).to(DType::f64).data<double>();
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
      reducer_(mesh, store_.trained_variables(), store_.gradient(), {}) {
  if (start == Start::now) parameters_initialised();
}

void TrainingEngine::parameters_initialised() {
  model_.weights_changed(WeightChange::initialised, context_);
}

void TrainingEngine::parameters_loaded() { model_.weights_changed(WeightChange::loaded, context_); }

StepResult TrainingEngine::step(MicroBatchSource& source, std::int64_t step, bool measure) {
  StepResult result;
  if (measure) result.layers.resize(static_cast<std::size_t>(config_.model.layers));
  result.learning_rate = schedule_.rate(step);

  const double loss_sum = accumulate_gradients(source, step, measure ? &result.layers : nullptr);
  if (measure) result.layers = reduce_over_ranks(result.layers, mesh_);
  result.loss = loss_over_ranks(loss_sum);
  const ModelAndGates norms = gradient_norms(store_, mesh_, context_);
  result.gradient_norm = std::hypot(norms.model, norms.gates);
  result.skipped = !std::isfinite(result.loss) || !std::isfinite(result.gradient_norm);
  if (!result.skipped) {
    const double limit = config_.optimizer.clip_norm;
    optimizer_.update(result.learning_rate,
                      {clip_scale(norms.model, limit), clip_scale(norms.gates, limit)}, context_);
    model_.weights_changed(WeightChange::updated, context_);
  }
  context_.settle_work();
  return result;
}

// Gradients of the mean loss over all tokens of the step, summed over ranks, in the store's
// buffers. Returns this rank's sum of losses; what its layers did is added to `layers`.
double TrainingEngine::accumulate_gradients(MicroBatchSource& source, std::int64_t step,
                                            std::vector<LayerStatistics>* layers) {
  const double tokens = static_cast<double>(config_.train.batch * config_.model.sequence);
  const std::int64_t first_sample = (step - 1) * config_.train.batch;
  const std::int64_t micro_steps = source.micro_batches();

  store_.clear_gradients();
  Tape tape(context_);
  double loss_sum = 0.0;
  std::string disagreement;
  const std::int64_t every = config_.train.check_lists;
  const bool check = every > 0 && step % every == 0;
  std::vector<LayerStatistics> measured;
  for (std::int64_t micro = 0; micro < micro_steps; ++micro) {
    const TokenBatch batch = source.next();
    BatchInfo info;
    info.batch = batch.batch;
    info.length = batch.length;
    info.positions_T = sequential_positions(batch.batch, batch.length);
    info.first_token = (batch.first_sample - first_sample) * batch.length;
    info.seed = config_.train.seed;
    info.step = step;
    info.training = true;
    info.global_batch = config_.train.batch;
    if (check) info.disagreement = &disagreement;
    if (layers) {
      measured.assign(layers->size(), {});
      info.statistics = &measured;
    }
    const Variable loss = model_.loss_sum(tape, batch.tokens_T, batch.targets_T, info);
    loss_sum += scalar(loss.value(), context_);
    // Sums are complete, and can travel, only once the last micro-step has added its share.
    if (micro + 1 == micro_steps) reducer_.attach(tape);
    tape.backward(loss, scalar_like(loss.value(), 1.0 / tokens, context_));
    if (layers) add_layers(*layers, measured);
  }
  reducer_.finish();
  if (check)
    agree(mesh_.world(), [&] {
      if (!disagreement.empty())
        throw UserError(str("step ", step, ": ", disagreement,
                            "; nothing was updated: look for failing memory and for hosts of "
                            "different processors, then resume"));
    });
  return loss_sum;
}

double TrainingEngine::loss_over_ranks(double local_sum) const {
  const Tensor sum = Tensor::zeros(Shape{1}, DType::f64);
  *sum.data<double>() = local_sum;
  mesh_.on(Axis::data).all_reduce(sum);
  // The tensor ranks of a data rank computed the same loss; the first one's bits are everybody's.
  mesh_.on(Axis::tensor).broadcast(sum, 0);
  return *sum.data<double>() / static_cast<double>(config_.train.batch * config_.model.sequence);
}

}  // namespace filigree
