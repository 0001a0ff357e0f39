// Multi-query associative recall (Arora et al. 2023, "Zoology", arXiv 2312.04927): keys with their
// values first, and long after them the keys again, whose values are to be named. The place of an
// answer depends on the content alone, so that a fixed window cannot reach it.
#pragma once

#include <cstdint>

#include "layers/language_model.hpp"
#include "runtime/training/config.hpp"
#include "runtime/training/training_engine.hpp"

namespace filigree {

// A sample:  fill ... fill | key value key value ... | fill ... fill | key key key ...
//            `lead` tokens   `pairs` pairs              the gap        rounds over all keys, each
//            in
//                                                                      another order
// The pairs do not begin the sequence, since most patterns always read its first tokens, and no
// value follows a query, so that the pair alone holds the answer. Token 0 fills, keys are 1..keys,
// values the `values` tokens after them. Keys of a sample differ; values may repeat.
struct RecallShape {
  std::int64_t sequence = 0, pairs = 0, rounds = 0, lead = 0, keys = 0, values = 0;

  std::int64_t vocabulary() const { return 1 + keys + values; }
  std::int64_t queries() const { return rounds * pairs; }
  std::int64_t first_query() const { return sequence - queries(); }
  // Tokens between the last pair and the first query.
  std::int64_t gap() const { return first_query() - lead - 2 * pairs; }
};

// A quarter of the sequence holds the pairs, an eighth lies in front of them, three eighths are
// queries (a model learns from these alone); twice as many keys as pairs. Throws UserError when
// `sequence` is under 32 tokens.
RecallShape recall_shape(std::int64_t sequence, std::int64_t values);

// Samples from here on are for evaluation.
inline constexpr std::int64_t kHeldOutSample = std::int64_t{1} << 40;

// Pairs of sample `number`. Held-out samples have all of shape.pairs; of training samples three in
// four have fewer (an eighth, a quarter, a half; at least 2), asked for more often: among few pairs
// finding the right one pays at once, without which small models stay for thousands of steps with
// the mean of all values (Arora et al. train on such a mixture too).
std::int64_t pairs_of_sample(const RecallShape& shape, std::int64_t number);

// Samples first_sample, first_sample + 1, ... of `seed`, a function of those two only. The target
// of a query is its key's value, every other target is -1, which the loss ignores.
TokenBatch recall_batch(const RecallShape& shape, std::uint64_t seed, std::int64_t first_sample,
                        std::int64_t rows);

// Training: samples 0, 1, ... of train.seed.
class RecallSource final : public MicroBatchSource {
 public:
  RecallSource(const RecallShape& shape, const RunConfig& config, const Mesh& mesh);

  std::int64_t micro_batches() const override { return (share_.size() + rows_ - 1) / rows_; }
  TokenBatch next() override;

 private:
  RecallShape shape_;
  TrainConfig config_;
  ShardRange share_;
  std::int64_t rows_;
  std::int64_t delivered_ = 0;
};

struct RecallScore {
  double loss = 0;      // mean of -log p(value) over the queries, nats
  double accuracy = 0;  // share of the queries whose value is likelier than every other value
  std::int64_t queries = 0;
};

// Over `samples` samples that training never sees, `rows` at once.
RecallScore score_recall(const LanguageModel& model, const RecallShape& shape, std::uint64_t seed,
                         std::int64_t samples, std::int64_t rows, ExecutionContext& context);

}  // namespace filigree
