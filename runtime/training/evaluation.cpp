#include "runtime/training/evaluation.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "runtime/training/metrics.hpp"

namespace filigree {
namespace {

// Targets scored: all tokens but the first, or whole windows until max_tokens are reached.
std::int64_t scored_tokens(const TokenDataset& dataset, const EvaluationOptions& options) {
  FILIGREE_CHECK(options.length >= 1 && options.rows >= 1, "length ", options.length, ", rows ",
                 options.rows);
  if (dataset.tokens() < 2)
    throw UserError(
        str("the split in ", dataset.folder(), " has ", dataset.tokens(),
            " tokens; evaluation needs at least 2: tokenize more text or enlarge the split"));
  const std::int64_t all = dataset.tokens() - 1;
  if (options.max_tokens <= 0) return all;
  const std::int64_t windows = (options.max_tokens + options.length - 1) / options.length;
  return std::min(all, windows * options.length);
}

EvaluationResult summary(double loss_sum, std::int64_t tokens, const TokenDataset& dataset) {
  EvaluationResult result;
  result.tokens = tokens;
  result.loss = loss_sum / static_cast<double>(tokens);
  result.perplexity = std::exp(result.loss);
  result.bits_per_byte = result.loss / std::numbers::ln2 * static_cast<double>(dataset.tokens()) /
                         static_cast<double>(std::max<std::int64_t>(1, dataset.text_bytes()));
  return result;
}

double negated_sum(const Tensor& values) {
  const Tensor wide = values.to(DType::f64);
  double sum = 0.0;
  for (const double value : wide.span<double>()) sum -= value;
  return sum;
}

// Sum of -log p over `rows` windows of `length`, the first starting at token `begin`; what the
// layers did is added to `layers`.
double windows_loss(const LanguageModel& model, const TokenDataset& dataset, std::int64_t begin,
                    std::int64_t rows, std::int64_t length, std::vector<LayerStatistics>& layers,
                    ExecutionContext& context) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(rows * length + 1));
  dataset.read(begin, ids);
  const std::span<const std::int32_t> all(ids);
  const Shape shape{rows * length};
  BatchInfo info;
  info.batch = rows;
  info.length = length;
  info.positions_T = sequential_positions(rows, length);
  info.first_token = begin;
  std::vector<LayerStatistics> measured(layers.size());
  if (!layers.empty()) info.statistics = &measured;
  const double sum = negated_sum(context.download(
      model.log_probabilities(context, Tensor::from<std::int32_t>(shape, all.first(all.size() - 1)),
                              Tensor::from<std::int32_t>(shape, all.last(all.size() - 1)), info)));
  context.settle_work();
  add_layers(layers, measured);
  return sum;
}

// How often each token occurs among [begin, end), counted by all ranks together.
std::vector<std::int64_t> token_counts(const TokenDataset& dataset, std::int64_t begin,
                                       std::int64_t end, Communicator& world) {
  constexpr std::int64_t kChunk = 1 << 18;
  const Tensor counts = Tensor::zeros(Shape{dataset.vocabulary()}, DType::i64);
  const auto count = counts.span<std::int64_t>();
  const ShardRange mine = shard_range(end - begin, world.size(), world.rank());
  std::vector<std::int32_t> ids;
  for (std::int64_t at = begin + mine.begin; at < begin + mine.end; at += kChunk) {
    ids.resize(static_cast<std::size_t>(std::min(kChunk, begin + mine.end - at)));
    dataset.read(at, ids);
    for (const std::int32_t id : ids) ++count[static_cast<std::size_t>(id)];
  }
  world.all_reduce(counts);
  return {count.begin(), count.end()};
}

}  // namespace

EvaluationResult evaluate(const LanguageModel& model, const TokenDataset& dataset, const Mesh& mesh,
                          const EvaluationOptions& options, ExecutionContext& context) {
  ErrorContext frame("evaluation");
  const std::int64_t tokens = scored_tokens(dataset, options);
  const std::int64_t full_windows = tokens / options.length;
  const std::int64_t tail = tokens % options.length;
  const ShardRange mine =
      shard_range(full_windows, mesh.size(Axis::data), mesh.coordinate(Axis::data));

  double sum = 0.0;
  std::vector<LayerStatistics> layers(static_cast<std::size_t>(options.measured_layers));
  for (std::int64_t window = mine.begin; window < mine.end; window += options.rows)
    sum += windows_loss(model, dataset, window * options.length,
                        std::min(options.rows, mine.end - window), options.length, layers, context);
  const bool has_tail = mesh.coordinate(Axis::data) == mesh.size(Axis::data) - 1;
  if (tail > 0 && has_tail)
    sum += windows_loss(model, dataset, full_windows * options.length, 1, tail, layers, context);

  const Tensor total = Tensor::zeros(Shape{1}, DType::f64);
  *total.data<double>() = sum;
  mesh.on(Axis::data).all_reduce(total);
  mesh.on(Axis::tensor).broadcast(total, 0);
  EvaluationResult result = summary(*total.data<double>(), tokens, dataset);
  if (!layers.empty()) result.layers = reduce_over_ranks(layers, mesh);
  return result;
}

EvaluationResult evaluate_unigram(const TokenDataset& train, const TokenDataset& validation,
                                  Communicator& world, const EvaluationOptions& options) {
  FILIGREE_CHECK_EQ(train.vocabulary(), validation.vocabulary(), "vocabularies of the two splits");
  const std::int64_t tokens = scored_tokens(validation, options);
  const auto seen = token_counts(train, 0, train.tokens(), world);
  const auto wanted = token_counts(validation, 1, 1 + tokens, world);
  const double denominator = static_cast<double>(train.tokens() + train.vocabulary());
  double sum = 0.0;
  for (std::size_t id = 0; id < wanted.size(); ++id)
    sum -= static_cast<double>(wanted[id]) *
           std::log((static_cast<double>(seen[id]) + 1.0) / denominator);
  return summary(sum, tokens, validation);
}

}  // namespace filigree
