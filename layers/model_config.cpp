#include "layers/model_config.hpp"

#include "layers/sparsity/registry.hpp"
#include "runtime/core/error.hpp"

namespace filigree {
namespace {

// Collects what is wrong, one line each, so that all of it is reported together.
class Problems {
 public:
  template <class Value, class... Reason>
  void add(const char* option, const Value& value, const Reason&... reason) {
    add_line(str("model.", option, " = ", value, ": ", reason...));
  }
  void require_positive(const char* option, std::int64_t value) {
    if (value <= 0) add(option, value, "must be at least 1");
  }
  void add_line(const std::string& line) { text_ += (text_.empty() ? "" : "\n") + line; }
  void throw_if_any() const {
    if (!text_.empty()) throw UserError(text_);
  }

 private:
  std::string text_;
};

void resolve_heads(ModelConfig& c, Problems& problems) {
  problems.require_positive("heads", c.heads);
  if (c.kv_heads == 0) c.kv_heads = c.heads;
  if (c.heads > 0 && (c.kv_heads <= 0 || c.heads % c.kv_heads != 0))
    problems.add("kv_heads", c.kv_heads, "must divide model.heads = ", c.heads);
  if (c.head_dim == 0 && c.heads > 0) {
    if (c.width % c.heads == 0)
      c.head_dim = c.width / c.heads;
    else
      problems.add("width", c.width, "is not divisible by model.heads = ", c.heads,
                   "; give model.head_dim, or a width that is");
  }
  if (c.head_dim < 0 || c.head_dim % 2 != 0)
    problems.add("head_dim", c.head_dim, "must be positive and even for rotary embeddings");
}

void check_rotary(const ModelConfig& c, Problems& problems) {
  const bool llama3 = c.rope_scaling == "llama3";
  if (!llama3 && c.rope_scaling != "linear" && c.rope_scaling != "none")
    problems.add("rope_scaling", c.rope_scaling, "allowed: none, linear, llama3");
  if (!(c.rope_factor >= 1.0)) problems.add("rope_factor", c.rope_factor, "must be at least 1");
  if (c.rope_scaling == "none" && c.rope_factor != 1.0)
    problems.add("rope_factor", c.rope_factor, "has no use with model.rope_scaling = none");
  if (!llama3) return;
  if (!(c.rope_low_turns > 0.0 && c.rope_low_turns < c.rope_high_turns))
    problems.add("rope_low_turns", c.rope_low_turns,
                 "must lie between 0 and model.rope_high_turns = ", c.rope_high_turns);
  problems.require_positive("rope_original_sequence", c.rope_original_sequence);
}

}  // namespace

ModelConfig ModelConfig::resolved(std::int64_t tokenizer_vocabulary) const {
  ModelConfig c = *this;
  Problems problems;
  if (c.vocabulary == 0) c.vocabulary = tokenizer_vocabulary;
  problems.require_positive("vocabulary", c.vocabulary);
  if (c.vocabulary < tokenizer_vocabulary)
    problems.add("vocabulary", c.vocabulary, "the tokenizer has ", tokenizer_vocabulary,
                 " entries; leave it 0 to take the tokenizer's");
  problems.require_positive("layers", c.layers);
  problems.require_positive("width", c.width);
  problems.require_positive("sequence", c.sequence);
  resolve_heads(c, problems);
  check_rotary(c, problems);
  if (c.feed_forward == 0) c.feed_forward = (c.width * 8 / 3 + 31) / 32 * 32;
  problems.require_positive("feed_forward", c.feed_forward);
  if (!(c.dropout >= 0.0 && c.dropout < 1.0))
    problems.add("dropout", c.dropout, "must lie in [0, 1)");
  if (c.recompute != "none" && c.recompute != "attention" && c.recompute != "block")
    problems.add("recompute", c.recompute, "allowed: none, attention, block");
  if (c.sigma_reparam != "none" && c.sigma_reparam != "attention" && c.sigma_reparam != "all")
    problems.add("sigma_reparam", c.sigma_reparam, "allowed: none, attention, all");
  if (const std::string reason = unknown_mechanism(c.mechanism); !reason.empty())
    problems.add("mechanism", c.mechanism, reason);
  else
    for (const std::string& line : c.sparsity.problems(c.mechanism, c.sequence))
      problems.add_line(line);
  problems.throw_if_any();
  return c;
}

RotaryFrequencies ModelConfig::rotary() const {
  using Scaling = RotaryFrequencies::Scaling;
  return {.theta = rope_theta,
          .scaling = rope_scaling == "llama3"   ? Scaling::llama3
                     : rope_scaling == "linear" ? Scaling::linear
                                                : Scaling::none,
          .factor = rope_factor,
          .low_turns = rope_low_turns,
          .high_turns = rope_high_turns,
          .original_length = static_cast<double>(rope_original_sequence)};
}

void ModelConfig::check_tensor_parallel(int tensor_ranks) const {
  if (heads % tensor_ranks != 0)
    throw UserError(str("model.heads = ", heads, " cannot be split over parallel.tensor = ",
                        tensor_ranks, " ranks; choose a divisor of ", heads));
  if (kv_heads % tensor_ranks != 0 && tensor_ranks % kv_heads != 0)
    throw UserError(str("model.kv_heads = ", kv_heads, " cannot be split over parallel.tensor = ",
                        tensor_ranks, " ranks; one must divide the other"));
  if (feed_forward < tensor_ranks || vocabulary < tensor_ranks)
    throw UserError(str("parallel.tensor = ", tensor_ranks, " is more than model.feed_forward = ",
                        feed_forward, " or the vocabulary of ", vocabulary, " can feed"));
}

namespace {

// Elements of the weights of one block's matrix products.
std::int64_t matrix_elements(const ModelConfig& c) {
  const std::int64_t heads = (c.output_gate ? 3 : 2) * c.heads + 2 * c.kv_heads;
  return c.width * c.head_dim * heads + 3 * c.width * c.feed_forward;
}

// One factor per linear layer that has one.
std::int64_t reparametrisation_factors(const ModelConfig& c) {
  return (c.reparametrises_attention() ? (c.output_gate ? 5 : 4) : 0) +
         (c.reparametrises_feed_forward() ? 3 : 0);
}

}  // namespace

std::int64_t ModelConfig::parameters() const {
  const std::int64_t norms = 2 * width + (qk_norm ? 2 * head_dim : 0);
  const std::int64_t biases = qkv_bias ? head_dim * (heads + 2 * kv_heads) : 0;
  const std::int64_t block = matrix_elements(*this) + norms + biases +
                             reparametrisation_factors(*this) + mechanism_parameters(*this);
  return layers * block + width + vocabulary * width * (tied_embeddings ? 1 : 2);
}

double ModelConfig::forward_flops_per_token(std::int64_t sequence_length) const {
  const auto weights = static_cast<double>(layers * matrix_elements(*this) + vocabulary * width);
  const double pairs_per_token = static_cast<double>(sequence_length + 1) / 2.0;
  const double attention = static_cast<double>(layers * heads * head_dim) * 4.0 * pairs_per_token;
  return 2.0 * weights + attention;
}

}  // namespace filigree
