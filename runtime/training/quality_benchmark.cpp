#include "runtime/training/quality_benchmark.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <memory>
#include <utility>

#include "layers/sparsity/layer_statistics.hpp"
#include "runtime/training/loader_source.hpp"
#include "runtime/training/training_engine.hpp"

namespace filigree {
namespace {

struct Sum {
  double total = 0.0;
  std::int64_t count = 0;
  void add(double value) {
    total += value;
    ++count;
  }
  double mean() const { return total / static_cast<double>(count); }
};

// Windows of `length` tokens of a split, as a batch.
TokenBatch windows(const TokenDataset& dataset, std::int64_t first, std::int64_t rows,
                   std::int64_t length) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(rows * length + 1));
  dataset.read(first * length, ids);
  const std::span<const std::int32_t> all(ids);
  TokenBatch batch;
  batch.batch = rows;
  batch.length = length;
  batch.tokens_T = Tensor::from<std::int32_t>({rows * length}, all.first(all.size() - 1));
  batch.targets_T = Tensor::from<std::int32_t>({rows * length}, all.last(all.size() - 1));
  return batch;
}

BatchInfo info_of(const TokenBatch& batch) {
  BatchInfo info;
  info.batch = batch.batch;
  info.length = batch.length;
  info.positions_T = sequential_positions(batch.batch, batch.length);
  return info;
}

// Share of the causal pairs that the model reads of a batch, over layers and heads.
double density_of(const LanguageModel& model, const TokenBatch& batch, ExecutionContext& context) {
  std::vector<LayerStatistics> layers(static_cast<std::size_t>(model.config().layers));
  BatchInfo info = info_of(batch);
  info.statistics = &layers;
  std::vector<std::int32_t> targets(batch.targets_T.span<std::int32_t>().begin(),
                                    batch.targets_T.span<std::int32_t>().end());
  for (std::int32_t& target : targets) target = std::max(target, 0);
  model.log_probabilities(context, batch.tokens_T,
                          Tensor::from<std::int32_t>(batch.targets_T.shape(), targets), info);
  LayerStatistics all;
  for (const LayerStatistics& layer : layers) all.add(layer);
  return all.density();
}

RecallShape recall_of(const RunConfig& run, const QualityTask& task) {
  return task.is_text() ? RecallShape{} : recall_shape(run.model.sequence, task.recall_values);
}

std::unique_ptr<MicroBatchSource> make_source(const RunConfig& config, const QualityTask& task,
                                              const RecallShape& recall, const Mesh& mesh) {
  if (!task.is_text()) return std::make_unique<RecallSource>(recall, config, mesh);
  return std::make_unique<LoaderSource>(*task.train, config, mesh, 0);
}

// `tokens_per_target` undoes that the engine's loss is a mean over all tokens, with a target or
// not.
void train(TrainingEngine& engine, MicroBatchSource& source, const RunConfig& run,
           double tokens_per_target, const QualityProgress& progress, QualityResult& result) {
  // The other variants are timed over the same steps.
  const std::int64_t settling = std::min(
      run.train.steps - 1, run.model.sparsity.warmup_steps + run.model.sparsity.ramp_steps);
  WorkLog settled;
  double seconds = 0.0;
  for (std::int64_t step = 1; step <= run.train.steps; ++step) {
    engine.context().reset_work();
    const auto start = std::chrono::steady_clock::now();
    result.train_loss = engine.step(source, step).loss * tokens_per_target;
    result.total_flops += static_cast<double>(engine.context().work.total().flops);
    if (step > settling) {
      seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      settled += engine.context().work;
    }
    if (progress) progress(step, result.train_loss);
  }
  const double tokens =
      static_cast<double>((run.train.steps - settling) * run.train.batch * run.model.sequence);
  const Work work = settled.total();
  result.steps = run.train.steps;
  result.flops_per_token = static_cast<double>(work.flops) / tokens;
  result.dense_flops_per_token = static_cast<double>(work.dense_flops) / tokens;
  result.tokens_per_second = tokens / seconds;
  const double attention = settled[WorkPart::attention].seconds;
  result.gate_share = settled[WorkPart::gate].seconds / attention;
  result.teacher_share = settled[WorkPart::teacher].seconds / attention;
}

}  // namespace

std::vector<bool> far_repeats(std::span<const std::int32_t> tokens,
                              std::span<const std::int32_t> targets, std::int64_t distance) {
  FILIGREE_CHECK_EQ(tokens.size(), targets.size(), "tokens and targets of a window");
  std::map<std::pair<std::int32_t, std::int32_t>, std::size_t> last;
  std::vector<bool> far(tokens.size());
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const auto [seen, first] = last.try_emplace({tokens[i], targets[i]}, i);
    // The last occurrence is the nearest: when it is far, all are.
    far[i] = !first && static_cast<std::int64_t>(i - seen->second) > distance;
    seen->second = i;
  }
  return far;
}

QualityScore score_text(const LanguageModel& model, const TokenDataset& dataset, std::int64_t rows,
                        std::int64_t max_tokens, ExecutionContext& context) {
  const std::int64_t length = model.config().sequence;
  std::int64_t count = (dataset.tokens() - 1) / length;
  if (count < 1)
    throw UserError(str("the validation split in ", dataset.folder(), " has ", dataset.tokens(),
                        " tokens, less than one window of model.sequence + 1 = ", length + 1,
                        "; tokenize more text or raise its share with --validation"));
  if (max_tokens > 0) count = std::min(count, (max_tokens + length - 1) / length);
  Sum all, last_quarter, far;
  for (std::int64_t at = 0; at < count; at += rows) {
    const TokenBatch batch = windows(dataset, at, std::min(rows, count - at), length);
    const Tensor scores = context
                              .download(model.log_probabilities(context, batch.tokens_T,
                                                                batch.targets_T, info_of(batch)))
                              .to(DType::f64);
    context.settle_work();
    for (std::int64_t row = 0; row < batch.batch; ++row) {
      const auto begin = static_cast<std::size_t>(row * length);
      const auto size = static_cast<std::size_t>(length);
      const auto repeats =
          far_repeats(batch.tokens_T.span<std::int32_t>().subspan(begin, size),
                      batch.targets_T.span<std::int32_t>().subspan(begin, size), kFarTokens);
      for (std::size_t i = 0; i < size; ++i) {
        const double loss = -scores.span<double>()[begin + i];
        all.add(loss);
        if (4 * i >= 3 * size) last_quarter.add(loss);
        if (repeats[i]) far.add(loss);
      }
    }
  }
  QualityScore score;
  score.loss = all.mean();
  score.last_quarter_loss = last_quarter.mean();
  score.far_loss = far.mean();
  score.targets = all.count;
  score.far_targets = far.count;
  return score;
}

namespace {

RunConfig variant_run(const RunConfig& config, const QualityVariant& variant, double density) {
  RunConfig run = config;
  run.parallel = {};
  run.model = matched_model(config.model, variant, density);
  return run;
}

ExecutionContext context_of(const RunConfig& run, ExecutionContext where) {
  where.forced_kernels = parse_forced_kernels(run.train.kernels);
  return where;
}

// Operations that one step executes, in the dense warm-up or at the variant's final density.
double work_of_a_step(const RunConfig& config, const QualityVariant& variant, double density,
                      bool warming_up, const QualityTask& task, const ExecutionContext& where) {
  const Mesh mesh(self_communicator("world"), {});
  RunConfig run = variant_run(config, variant, density);
  run.model.sparsity.warmup_steps = warming_up ? 1 : 0;
  run.model.sparsity.ramp_steps = 0;
  TrainingEngine engine(run, mesh, context_of(run, where));
  const auto source = make_source(run, task, recall_of(run, task), mesh);
  engine.context().reset_work();
  engine.step(*source, 1);
  return static_cast<double>(engine.context().work.total().flops);
}

}  // namespace

QualityResult measure_quality(const RunConfig& config, const QualityVariant& variant,
                              double density, const QualityTask& task,
                              const ExecutionContext& where, const QualityProgress& progress) {
  ErrorContext frame(str("variant ", variant.name, " at density ", density));
  const Mesh mesh(self_communicator("world"), {});
  const RunConfig run = variant_run(config, variant, density);
  TrainingEngine engine(run, mesh, context_of(run, where));
  const RecallShape recall = recall_of(run, task);
  const auto source = make_source(run, task, recall, mesh);

  QualityResult result;
  result.variant = variant;
  result.target_density = variant.mechanism == "dense" ? 1.0 : density;
  result.seed = run.train.seed;
  const double tokens_per_target =
      task.is_text() ? 1.0
                     : static_cast<double>(recall.sequence) / static_cast<double>(recall.queries);
  train(engine, *source, run, tokens_per_target, progress, result);

  constexpr std::int64_t kRows = 8;
  if (task.is_text()) {
    result.score = score_text(engine.model(), *task.validation, kRows, task.validation_tokens,
                              engine.context());
    result.density = density_of(engine.model(), windows(*task.validation, 0, 1, run.model.sequence),
                                engine.context());
  } else {
    const RecallScore score = score_recall(engine.model(), recall, run.train.seed,
                                           task.recall_samples, kRows, engine.context());
    result.score.loss = score.loss;
    result.score.accuracy = score.accuracy;
    result.score.targets = score.queries;
    result.density =
        density_of(engine.model(), recall_batch(recall, run.train.seed, 0, 1), engine.context());
  }
  return result;
}

// While the density falls, a step costs about the mean of one in the warm-up and a settled one.
std::int64_t steps_of_equal_work(const RunConfig& config, const QualityVariant& variant,
                                 double density, const QualityTask& task,
                                 const ExecutionContext& where) {
  const auto work = [&](const QualityVariant& of, double at, bool warming_up) {
    return work_of_a_step(config, of, at, warming_up, task, where);
  };
  const double dense = work(parse_quality_variant("dense"), 1.0, false);
  const double settled = work(variant, density, false);
  const auto steps = static_cast<double>(config.train.steps);
  const SparsityConfig& sparsity = config.model.sparsity;
  const bool ramps = variant.mechanism == "adaptive";
  const double start = ramps ? work(variant, density, true) : 0.0;
  const auto share = [&](std::int64_t part, double most) {
    return ramps ? std::min(static_cast<double>(part) / steps, most) : 0.0;
  };
  const double warm = share(sparsity.warmup_steps, 1.0);
  const double ramp = share(sparsity.ramp_steps, 1.0 - warm);
  const double mean = warm * start + ramp * (start + settled) / 2.0 + (1.0 - warm - ramp) * settled;
  return std::llround(steps * dense / mean);
}

RunConfig with_steps(const RunConfig& config, std::int64_t steps) {
  RunConfig run = config;
  const auto scaled = [&](std::int64_t& part) {
    part = std::llround(static_cast<double>(part) * static_cast<double>(steps) /
                        static_cast<double>(config.train.steps));
  };
  run.train.steps = steps;
  scaled(run.schedule.warmup_steps);
  scaled(run.schedule.decay_steps);
  scaled(run.model.sparsity.warmup_steps);
  scaled(run.model.sparsity.ramp_steps);
  return run;
}

}  // namespace filigree
