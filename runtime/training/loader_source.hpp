// A rank's share of the training split as micro-batches.
#pragma once

#include "data_pipeline/batch_loader.hpp"
#include "parallel/mesh.hpp"
#include "runtime/training/config.hpp"
#include "runtime/training/training_engine.hpp"

namespace filigree {

class LoaderSource final : public MicroBatchSource {
 public:
  // Begins with the step after `steps_done`. Throws UserError when the split is shorter than a
  // window or the batch is too small for the ranks.
  LoaderSource(const TokenDataset& train, const RunConfig& config, const Mesh& mesh,
               std::int64_t steps_done);

  std::int64_t micro_batches() const override { return loader_.micro_batches(); }
  TokenBatch next() override { return loader_.next(); }
  double wait_seconds() const { return loader_.wait_seconds(); }

 private:
  BatchLoader loader_;
};

// Throws UserError when there is not one window of `length` tokens and their targets.
void check_one_window(const TokenDataset& dataset, std::int64_t length);

}  // namespace filigree
