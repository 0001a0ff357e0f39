#include "runtime/training/generation.hpp"

#include <algorithm>

namespace filigree {
namespace {

Tensor ids(std::span<const std::int32_t> values) {
  return Tensor::from<std::int32_t>(Shape{static_cast<std::int64_t>(values.size())}, values);
}

Tensor as_f64(const Tensor& values) {
  return values.dtype() == DType::f64 ? values : values.to(DType::f64);
}

// The next token, in the memory of the context.
Tensor sampled(const Tensor& logits, const SamplingOptions& sampling, std::int64_t position,
               ExecutionContext& context) {
  const Tensor token = context.empty({1}, DType::i32);
  dispatch<SampleToken>(
      {.logits_V = logits, .options = sampling, .position = position, .token = token}, context);
  return token;
}

}  // namespace

std::vector<std::int32_t> generate(const LanguageModel& model, std::span<const std::int32_t> prompt,
                                   std::int64_t max_tokens, std::int32_t end_token,
                                   const SamplingOptions& sampling, ExecutionContext& context,
                                   const std::function<void(std::int32_t)>& on_token) {
  check_sampling(sampling);
  FILIGREE_CHECK(!prompt.empty(), "a prompt needs at least one token");
  const auto given = static_cast<std::int64_t>(prompt.size());
  const std::int64_t sequence = model.config().sequence;
  if (given >= sequence)
    throw UserError(str("the prompt has ", given, " tokens; the model was trained on sequences of ",
                        sequence, ", so at most ", sequence - 1,
                        " leave room for an answer: shorten it"));
  const std::int64_t capacity = std::min(sequence, given + max_tokens);
  DecodeCache cache = model.make_cache(context, capacity);
  std::vector<std::int32_t> result;
  Tensor next = ids(prompt);
  for (std::int64_t position = given; position < capacity; ++position) {
    next = sampled(model.decode(context, next, cache), sampling, position, context);
    const std::int32_t token = context.download(next).data<std::int32_t>()[0];
    context.settle_work();
    FILIGREE_CHECK(token >= 0, "the logits at position ", position, " are not finite");
    if (token == end_token) break;
    result.push_back(token);
    if (on_token) on_token(token);
  }
  return result;
}

std::vector<double> score_tokens(const LanguageModel& model, std::span<const std::int32_t> tokens,
                                 std::int32_t start_token, ExecutionContext& context) {
  std::vector<std::int32_t> text{start_token};
  text.insert(text.end(), tokens.begin(), tokens.end());
  const std::span<const std::int32_t> all(text);
  const std::size_t window = static_cast<std::size_t>(model.config().sequence);
  const std::size_t stride = std::max<std::size_t>(1, window / 2);

  std::vector<double> scores;
  for (std::size_t begin = 0; scores.size() < tokens.size(); begin += stride) {
    const std::size_t length = std::min(window, tokens.size() - begin);
    BatchInfo info;
    info.batch = 1;
    info.length = static_cast<std::int64_t>(length);
    info.positions_T = sequential_positions(1, info.length);
    const Tensor window_scores = as_f64(context.download(model.log_probabilities(
        context, ids(all.subspan(begin, length)), ids(all.subspan(begin + 1, length)), info)));
    context.settle_work();
    // Positions before `scored` had their say in an earlier window, with at least as much context.
    const std::size_t scored = scores.size() - begin;
    const auto values = window_scores.span<double>();
    scores.insert(scores.end(), values.begin() + static_cast<std::ptrdiff_t>(scored), values.end());
  }
  return scores;
}

}  // namespace filigree
