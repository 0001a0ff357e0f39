// A training run from its configuration to its last checkpoint.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "data_pipeline/token_dataset.hpp"
#include "runtime/core/execution.hpp"
#include "runtime/core/log.hpp"
#include "runtime/storage/file_system.hpp"
#include "runtime/training/config.hpp"
#include "runtime/training/metrics.hpp"

namespace filigree {

struct TrainingJob {
  RunConfig config;  // resolved for the shards in config.data.path; config.run is the run directory
  std::string config_text;  // config in file form, and its hash: stored with the run
  std::string config_hash;
  // Every option as it is by default: what a saved configuration meant that is older than an
  // option.
  std::string default_config_text;
  bool resume = false;       // continue the run from its newest checkpoint instead of starting it
  ExecutionContext context;  // where this rank computes, and with how many threads
  FileSystem* checkpoint_files = &posix_file_system();  // what checkpoints are written through

  LogLevel console_level = LogLevel::info;         // of rank 0; every rank logs to run/logs/
  std::function<bool()> stop_requested;            // asked on every rank at the end of every step
  std::function<void(const StepReport&)> on_step;  // called on every rank after every step
};

enum class TrainingOutcome { finished, interrupted };

// The splits of the run's data.
struct TrainingData {
  TokenDataset train;
  std::optional<TokenDataset> validation;  // absent when no document was held out
  static TrainingData open(const std::string& folder);
};

// The configuration with everything derived filled in: the model's sizes and the degree of data
// parallelism. Throws UserError when the world cannot be laid out like that.
RunConfig resolve(const RunConfig& config, int world_size, std::int64_t vocabulary);

// Trains until config.train.steps are done, or until any rank is asked to stop; the run is saved in
// both cases, and it is an error where it cannot be. A checkpoint in between that cannot be saved
// is a warning. A problem that all ranks agree on is an AgreedError; any other exception is this
// rank's alone. Collective.
TrainingOutcome train(const TrainingJob& job, const std::shared_ptr<Communicator>& world);

}  // namespace filigree
