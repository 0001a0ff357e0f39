// The two ends of the model, split by vocabulary over the tensor axis.
#pragma once

#include "layers/linear.hpp"
#include "parallel/transitions.hpp"

namespace filigree {

// The embedding table [V, D], also the output matrix when tied. Ranks own consecutive rows; sizes
// differ by at most one.
class VocabParallelEmbedding {
 public:
  VocabParallelEmbedding(const std::string& name, std::int64_t vocabulary, std::int64_t width,
                         double deviation, const Mesh& mesh, ParameterStore& store);

  // ids: i32 [T]; the result is invariant on the tensor axis.
  Variable lookup(Tape& tape, const Variable& ids) const;
  // logits[t, v] = <x[t], row v>, over this rank's rows; x: replicated on the tensor axis, the
  // result sharded(1).
  Variable logits(Tape& tape, const Variable& x) const;

  std::int64_t first_row() const;
  std::int64_t local_rows() const;

 private:
  const Mesh* mesh_;
  ParameterStore* store_;
  std::size_t weight_;
};

// -log softmax(logits)[target] summed over this rank's tokens: a scalar in the accumulation dtype,
// partial on every axis on which the tokens are split and invariant on the tensor axis. Negative
// targets are ignored. Backward turns the logits into their gradient in place: they must not be
// read afterwards.
Variable vocab_parallel_cross_entropy(Tape& tape, const Variable& logits_TV,
                                      const Tensor& targets_T, std::int64_t first_column,
                                      const Mesh& mesh);

// log softmax(logits)[target] of every token, accumulation dtype [T]; 0 for negative targets.
Tensor vocab_parallel_log_probabilities(ExecutionContext& execution, const Tensor& logits_TV,
                                        const Tensor& targets_T, std::int64_t first_column,
                                        const Mesh& mesh);

}  // namespace filigree
