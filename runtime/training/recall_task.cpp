#include "runtime/training/recall_task.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "runtime/core/random.hpp"

namespace filigree {
namespace {

// Samples from here on are for evaluation.
constexpr std::int64_t kHeldOut = std::int64_t{1} << 40;

// Random numbers of a sample, taken one after the other.
class Draws {
 public:
  Draws(std::uint64_t seed, std::int64_t sample)
      : random_(seed, RandomPurpose::sampling, static_cast<std::uint64_t>(sample)) {}
  std::int64_t below(std::int64_t limit) {
    return static_cast<std::int64_t>(random_.uniform(next_++) * static_cast<double>(limit));
  }

 private:
  Philox random_;
  std::uint64_t next_ = 0;
};

// The first `count` of a random permutation of 0, ..., size - 1 (Fisher and Yates).
std::vector<std::int64_t> shuffled(Draws& draws, std::int64_t size, std::int64_t count) {
  std::vector<std::int64_t> values(static_cast<std::size_t>(size));
  std::iota(values.begin(), values.end(), std::int64_t{0});
  for (std::int64_t i = 0; i < count; ++i)
    std::swap(values[static_cast<std::size_t>(i)],
              values[static_cast<std::size_t>(i + draws.below(size - i))]);
  values.resize(static_cast<std::size_t>(count));
  return values;
}

void write_sample(const RecallShape& shape, Draws draws, std::int32_t* tokens,
                  std::int32_t* targets) {
  std::fill_n(tokens, shape.sequence, 0);
  std::fill_n(targets, shape.sequence, -1);
  const std::vector<std::int64_t> keys = shuffled(draws, shape.keys, shape.facts);
  std::vector<std::int64_t> values(keys.size());
  const std::vector<std::int64_t> places = shuffled(draws, shape.zone, shape.facts);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    values[i] = draws.below(shape.values);
    tokens[shape.lead + places[i]] = shape.fact_token(keys[i], values[i]);
  }
  std::vector<std::int64_t> order;
  for (std::int64_t query = shape.first_query(); query < shape.sequence; ++query) {
    if (order.empty()) order = shuffled(draws, shape.facts, shape.facts);
    const auto asked = static_cast<std::size_t>(order.back());
    order.pop_back();
    tokens[query] = shape.key_token(keys[asked]);
    targets[query] = shape.value_token(values[asked]);
  }
}

std::vector<double> scores_of(const LanguageModel& model, const TokenBatch& batch,
                              const Tensor& targets_T, ExecutionContext& context) {
  BatchInfo info;
  info.batch = batch.batch;
  info.length = batch.length;
  info.positions_T = sequential_positions(batch.batch, batch.length);
  const Tensor scores =
      context.download(model.log_probabilities(context, batch.tokens_T, targets_T, info))
          .to(DType::f64);
  context.settle_work();
  const auto values = scores.span<double>();
  return {values.begin(), values.end()};
}

}  // namespace

RecallShape recall_shape(std::int64_t sequence, std::int64_t values) {
  if (sequence < 64)
    throw UserError(str("model.sequence = ", sequence,
                        ": the recall task needs at least 64 tokens; 512 is usual"));
  RecallShape shape;
  shape.sequence = sequence;
  shape.lead = sequence / 8;
  shape.zone = 3 * sequence / 8;
  shape.facts = sequence / 32;
  shape.queries = 3 * sequence / 8;
  shape.keys = 2 * shape.facts;
  shape.values = values;
  return shape;
}

TokenBatch recall_batch(const RecallShape& shape, std::uint64_t seed, std::int64_t first_sample,
                        std::int64_t rows) {
  TokenBatch batch;
  batch.batch = rows;
  batch.length = shape.sequence;
  batch.first_sample = first_sample;
  batch.tokens_T = Tensor::empty({rows * shape.sequence}, DType::i32);
  batch.targets_T = Tensor::empty({rows * shape.sequence}, DType::i32);
  for (std::int64_t row = 0; row < rows; ++row)
    write_sample(shape, Draws(seed, first_sample + row),
                 batch.tokens_T.data<std::int32_t>() + row * shape.sequence,
                 batch.targets_T.data<std::int32_t>() + row * shape.sequence);
  return batch;
}

RecallSource::RecallSource(const RecallShape& shape, const RunConfig& config, const Mesh& mesh)
    : shape_(shape),
      config_(config.train),
      share_(batch_share(config.train.batch, mesh)),
      rows_(micro_batch_rows(config.train, share_)) {}

TokenBatch RecallSource::next() {
  const std::int64_t begin = share_.begin + delivered_ % micro_batches() * rows_;
  const std::int64_t first = delivered_ / micro_batches() * config_.batch + begin;
  ++delivered_;
  return recall_batch(shape_, config_.seed, first, std::min(rows_, share_.end - begin));
}

// The model has no say in which value is likeliest but through their probabilities, so it is asked
// for each of them in turn.
RecallScore score_recall(const LanguageModel& model, const RecallShape& shape, std::uint64_t seed,
                         std::int64_t samples, std::int64_t rows, ExecutionContext& context) {
  FILIGREE_CHECK(samples >= 1 && rows >= 1, samples, " samples, ", rows, " rows");
  RecallScore score;
  std::int64_t right = 0;
  for (std::int64_t at = 0; at < samples; at += rows) {
    const TokenBatch batch = recall_batch(shape, seed, kHeldOut + at, std::min(rows, samples - at));
    const auto answers = batch.targets_T.span<std::int32_t>();
    std::vector<double> best(answers.size(), -std::numeric_limits<double>::infinity());
    std::vector<std::int32_t> choice(answers.size(), -1);
    for (std::int64_t value = 0; value < shape.values; ++value) {
      const std::int32_t id = shape.value_token(value);
      const std::vector<std::int32_t> ids(answers.size(), id);
      const auto scores = scores_of(
          model, batch, Tensor::from<std::int32_t>(batch.targets_T.shape(), ids), context);
      for (std::size_t i = 0; i < scores.size(); ++i) {
        if (answers[i] == id) score.loss -= scores[i];
        if (scores[i] <= best[i]) continue;
        best[i] = scores[i];
        choice[i] = id;
      }
    }
    for (std::size_t i = 0; i < answers.size(); ++i) {
      if (answers[i] < 0) continue;
      ++score.queries;
      right += choice[i] == answers[i];
    }
  }
  score.loss /= static_cast<double>(score.queries);
  score.accuracy = static_cast<double>(right) / static_cast<double>(score.queries);
  return score;
}

}  // namespace filigree
