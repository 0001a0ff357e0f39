// A Llama-style decoder language model over any mesh.
#pragma once

#include <memory>
#include <vector>

#include "layers/model_config.hpp"
#include "layers/parameter.hpp"
#include "layers/transformer_block.hpp"
#include "layers/vocab_parallel.hpp"
#include "parallel/mesh.hpp"
#include "runtime/autograd/tape.hpp"

namespace filigree {

// What the layers must know about the tokens at hand.
struct BatchInfo {
  std::int64_t batch = 0;            // sequences on this rank
  std::int64_t length = 0;           // tokens of each
  Tensor positions_T;                // i32 [batch * length]
  // Row of this rank's first token among all tokens of the step: dropout depends on it.
  std::int64_t first_token = 0;
  std::uint64_t dropout_seed = 0;
  std::uint64_t step = 0;
  bool training = false;             // dropout is on
};

class LanguageModel {
 public:
  // Declares its parameters in `store`; `config` is resolved. The mesh must outlive the model.
  LanguageModel(const ModelConfig& config, const Mesh& mesh, ParameterStore& store);

  // Sum over this rank's tokens of -log p(target), as a f64/f32 scalar placed partial on the data axis; negative
  // targets are ignored. tokens, targets: i32 [batch * length].
  Variable loss_sum(Tape& tape, const Tensor& tokens_T, const Tensor& targets_T,
                    const BatchInfo& batch) const;

  // log p(target) of every token, accumulation dtype [T], without recording (evaluation, scoring).
  Tensor log_probabilities(ExecutionContext& context, const Tensor& tokens_T, const Tensor& targets_T,
                           const BatchInfo& batch) const;

  // One step of generation: appends `tokens` (all of one sequence) to the cache and returns the logits after the last
  // of them, f32 [V], on every rank.
  Tensor decode(ExecutionContext& context, const Tensor& tokens_T, struct DecodeCache& cache) const;

  const ModelConfig& config() const { return config_; }

 private:
  Variable hidden(Tape& tape, const Tensor& tokens_T, const BatchInfo& batch, DecodeCache* cache) const;

  ModelConfig config_;
  const Mesh& mesh_;
  ParameterStore& store_;
  VocabParallelEmbedding embedding_;
  std::vector<TransformerBlock> blocks_;
  RmsNorm norm_;
  VocabParallelHead head_;
};

// Keys and values of the tokens already processed, per layer: [capacity, G*K] of this rank's groups.
struct DecodeCache {
  struct Layer {
    Tensor k, v;
  };
  std::vector<Layer> layers;
  std::int64_t length = 0;      // tokens in the cache
  std::int64_t capacity = 0;
};
DecodeCache make_decode_cache(const ModelConfig& config, const Mesh& mesh, DType dtype,
                              std::int64_t capacity, ExecutionContext& context);

// Positions 0..length-1 for each of `batch` sequences.
Tensor sequential_positions(std::int64_t batch, std::int64_t length, std::int64_t first,
                            ExecutionContext& context);

}  // namespace filigree
