// What the layers must know about the tokens at hand.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "layers/sparsity/layer_statistics.hpp"
#include "runtime/core/execution.hpp"
#include "runtime/core/step_number.hpp"
#include "runtime/core/tensor.hpp"

namespace filigree {

struct BatchInfo {
  std::int64_t batch = 0;        // sequences on this rank
  std::int64_t length = 0;       // tokens of each
  Tensor positions_T;            // i32 [batch * length]
  std::int64_t first_token = 0;  // this rank's first token among all tokens of the step (dropout)
  std::uint64_t seed = 0;        // of the run (dropout)
  StepNumber step;               // of the run (dropout, schedules of sparsity, sampling)
  bool training = false;         // dropout is on, gates learn
  // Packed documents, optional: the one that the token at this position belongs to, as positions
  // [begin, end) of its sequence; i32 [batch * length]. Tokens read within their document only.
  Tensor document_begin_T, document_end_T;
  // Sequences of the whole step, over all ranks and micro-steps; 0: `batch` is all. What an
  // auxiliary loss is averaged over.
  std::int64_t global_batch = 0;
  // Where attention layers put what they did, layer i overwriting entry i of one per layer; null:
  // they do not measure. Lives until the backward pass has ended, which may run layers again.
  std::vector<LayerStatistics>* statistics = nullptr;
  // Where gated layers report that tensor ranks have chosen differently (list_agreement.hpp), the
  // first report staying; null: they do not look. The same on every rank; lives like statistics.
  std::string* disagreement = nullptr;

  // The same with its tensors in the context's memory.
  BatchInfo uploaded(const ExecutionContext& execution) const;
};

// Positions first, first + 1, ..., first + length - 1 for each of `batch` sequences: i32 [batch *
// length].
Tensor sequential_positions(std::int64_t batch, std::int64_t length, std::int64_t first = 0);

}  // namespace filigree
