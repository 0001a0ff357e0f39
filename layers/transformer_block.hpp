// A pre-norm transformer block: x + attention(norm(x)), then x + feed_forward(norm(x)).
#pragma once

#include "layers/attention.hpp"
#include "layers/feed_forward.hpp"
#include "layers/rms_norm.hpp"
#include "parallel/transitions.hpp"

namespace filigree {

class TransformerBlock {
 public:
  TransformerBlock(std::int64_t index, const ModelConfig& config, const Mesh& mesh,
                   ParameterStore& store);

  // x and the result: invariant on the tensor axis.
  Variable forward(Tape& tape, const Variable& x, const BatchInfo& batch) const;
  Variable decode(Tape& tape, const Variable& x, const BatchInfo& batch, DecodeCache& cache) const;
  void weights_changed(WeightChange change, ExecutionContext& execution);

 private:
  Variable attention_branch(Tape& tape, const Variable& x, const BatchInfo& batch) const;
  Variable feed_forward_branch(Tape& tape, const Variable& x, const BatchInfo& batch) const;
  Variable run(Tape& tape, const Variable& x, const BatchInfo& batch) const;

  std::int64_t index_;
  double dropout_;
  std::string recompute_;
  const Mesh* mesh_;
  RmsNorm norm1_;
  Attention attention_;
  RmsNorm norm2_;
  FeedForward feed_forward_;
};

// Dropout on a residual branch or the embedding; `site` differs for every place in the model.
Variable apply_dropout(Tape& tape, const Variable& x, double rate, std::int64_t site,
                       const BatchInfo& batch);

}  // namespace filigree
