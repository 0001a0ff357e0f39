// A Llama-style decoder language model over any mesh.
#pragma once

#include <optional>
#include <vector>

#include "layers/decode_cache.hpp"
#include "layers/model_config.hpp"
#include "layers/parameter.hpp"
#include "layers/transformer_block.hpp"
#include "layers/vocab_parallel.hpp"
#include "parallel/mesh.hpp"
#include "runtime/autograd/tape.hpp"

namespace filigree {

class LanguageModel {
 public:
  // Declares its parameters in `store`; `config` is resolved. The mesh and the store must outlive
  // the model. Throws UserError when the heads do not fit the tensor axis.
  LanguageModel(const ModelConfig& config, const Mesh& mesh, ParameterStore& store);
  LanguageModel(const LanguageModel&) = delete;
  LanguageModel& operator=(const LanguageModel&) = delete;

  // To be called after the store was materialised, loaded or updated, before the model is used
  // again: brings what layers derive from their weights up to date. Collective.
  void weights_changed(WeightChange change, ExecutionContext& execution);

  // Sum over this rank's tokens of -log p(target): a scalar in the accumulation dtype, partial on
  // the data axis. Negative targets are ignored. tokens, targets: i32 [batch * length].
  Variable loss_sum(Tape& tape, const Tensor& tokens_T, const Tensor& targets_T,
                    const BatchInfo& batch) const;

  // log p(target) of every token, accumulation dtype [T] (evaluation, scoring).
  Tensor log_probabilities(ExecutionContext& execution, const Tensor& tokens_T,
                           const Tensor& targets_T, const BatchInfo& batch) const;

  // The logits after every token, accumulation dtype [T, V], the same on every tensor rank.
  Tensor all_logits(ExecutionContext& execution, const Tensor& tokens_T,
                    const BatchInfo& batch) const;

  // Generation: appends `tokens` (i32 [n], of one sequence) to the cache and returns the logits
  // after the last of them, f32 or f64 [V], the same on every rank.
  Tensor decode(ExecutionContext& execution, const Tensor& tokens_T, DecodeCache& cache) const;
  DecodeCache make_cache(ExecutionContext& execution, std::int64_t capacity) const;

  const ModelConfig& config() const { return config_; }

 private:
  Variable hidden(Tape& tape, const Tensor& tokens_T, const BatchInfo& batch) const;
  const VocabParallelEmbedding& output_table() const { return head_ ? *head_ : embedding_; }
  Variable logits(Tape& tape, const Variable& x) const;
  // One row [V] of the whole vocabulary from this rank's part of it.
  void gather_logits(ExecutionContext& execution, const Tensor& local, const Tensor& all_V) const;

  ModelConfig config_;
  const Mesh& mesh_;
  ParameterStore& store_;
  VocabParallelEmbedding embedding_;
  std::vector<TransformerBlock> blocks_;
  RmsNorm norm_;
  std::optional<VocabParallelEmbedding> head_;  // only when the embeddings are not tied
};

}  // namespace filigree
