// Associative recall: facts first, each a key with its value, and long after them keys alone, whose
// values are to be named. The place of an answer depends on the content only, so that a fixed
// window cannot reach it. After the multi-query associative recall of Arora et al. 2023 ("Zoology",
// arXiv 2312.04927), but a fact is one token instead of two: with two, a small model must first
// learn to look one token back, in thousands of steps, which says nothing about a choice of blocks.
#pragma once

#include <cstdint>

#include "layers/language_model.hpp"
#include "runtime/training/config.hpp"
#include "runtime/training/training_engine.hpp"

namespace filigree {

// A sample, from left to right:
//   `lead`     tokens of filling
//   `zone`     tokens, `facts` of them facts in random places, the others filling
//   gap()      tokens of filling
//   `queries`  keys: rounds over the keys of all facts, each round in another order
// The facts do not begin the sequence, since most patterns always read its first tokens. Keys of a
// sample differ; values may repeat. Token 0 fills; then come the keys, the values (as targets only)
// and the facts, each in this order.
struct RecallShape {
  std::int64_t sequence = 0, lead = 0, zone = 0, facts = 0, queries = 0, keys = 0, values = 0;

  std::int64_t vocabulary() const { return 1 + keys + values + keys * values; }
  std::int64_t first_query() const { return sequence - queries; }
  std::int64_t gap() const { return first_query() - lead - zone; }

  std::int32_t key_token(std::int64_t key) const { return static_cast<std::int32_t>(1 + key); }
  std::int32_t value_token(std::int64_t value) const {
    return static_cast<std::int32_t>(1 + keys + value);
  }
  std::int32_t fact_token(std::int64_t key, std::int64_t value) const {
    return static_cast<std::int32_t>(1 + keys + values + key * values + value);
  }
};

// An eighth of the sequence leads, three eighths hold a fact per 32 tokens of the sequence, an
// eighth is the gap, three eighths are queries; twice as many keys as facts. Throws UserError when
// `sequence` is under 64 tokens.
RecallShape recall_shape(std::int64_t sequence, std::int64_t values);

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
