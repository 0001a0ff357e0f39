// Reads a rank's share of every step ahead of time.
#pragma once

#include <cstdint>
#include <memory>

#include "data_pipeline/sampler.hpp"
#include "data_pipeline/token_dataset.hpp"
#include "runtime/core/tensor.hpp"

namespace filigree {

struct TokenBatch {
  std::int64_t batch = 0, length = 0;
  std::int64_t first_sample = 0;  // of the run; row r of the batch is sample first_sample + r
  Tensor tokens_T, targets_T;     // i32 [batch * length]; targets are the tokens one further
};

// Step s of the run consumes samples [s * global_batch, (s + 1) * global_batch). This loader
// delivers, for s = first_step, first_step + 1, ..., the part [begin, end) of each step's samples,
// micro_batch rows at a time.
class BatchLoader {
 public:
  struct Options {
    std::int64_t length = 0;
    std::int64_t global_batch = 0;
    std::int64_t begin = 0, end = 0;  // this rank's rows of every step
    std::int64_t micro_batch = 0;
    std::int64_t first_step = 0;
    std::int64_t prefetch = 4;  // micro-batches read ahead
  };
  BatchLoader(TokenDataset dataset, Sampler sampler, const Options& options);
  ~BatchLoader();
  BatchLoader(BatchLoader&&) noexcept;

  // Micro-batches per step of this rank: ceil((end - begin) / micro_batch).
  std::int64_t micro_batches() const;
  // The next micro-batch, in order. Rethrows what the reader met, with the step and sample in it.
  TokenBatch next();
  // Seconds that next() has waited for the reader so far.
  double wait_seconds() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace filigree
