// How fast checkpoints are written and read beside what the disk can do, and how long training
// stands still for them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "parallel/mesh.hpp"
#include "runtime/training/config.hpp"

namespace filigree {

struct CheckpointBenchmarkOptions {
  std::filesystem::path folder;  // on the disk to measure; all that is written there is removed
  std::int64_t repeats = 5;
  double step_seconds = 0.25;  // of the training that a save in the background goes beside
  int threads = 1;             // of a rank
};

// The same work, or its counterpart without checkpoints, done `repeats` times.
struct Timed {
  std::vector<double> seconds;  // of the slowest rank, each time
  std::int64_t bytes = 0;       // of all ranks together
  double median() const;
  double bytes_per_second() const;  // by the median
};

struct CheckpointBenchmark {
  MeshShape layout;
  std::int64_t parameters = 0;
  std::size_t tensors = 0;
  Timed plain_write;  // as many bytes as the rank's file has, in the largest pieces, and fsync
  Timed save;         // in the foreground: its time is a pause
  Timed removal;      // of the checkpoint that this save superseded, which nobody waits for
  Timed pause;        // of a save in the background
  Timed background;   // that save from its start to its end
  double step_seconds;
  double first_pause;  // of the first, for which memory is taken from the system
  Timed plain_read;    // as many bytes as the rank loads, one file after the other
  Timed load;          // on the layout that saved
  Timed load_other;    // by a rank of a layout with twice as many tensor ranks
  double cached;       // share of the files that was in memory all the same before they were read
};

// Saves and loads the training state of `config`, resolved, on its layout: parameters and moments.
// What belongs together is measured in turns. Collective; every rank gets the result. Throws
// AgreedError when the folder cannot be used.
CheckpointBenchmark measure_checkpoints(const RunConfig& config,
                                        const std::shared_ptr<Communicator>& world,
                                        const CheckpointBenchmarkOptions& options);

std::string checkpoint_benchmark_text(const CheckpointBenchmark& result);
nlohmann::ordered_json to_json(const CheckpointBenchmark& result);

}  // namespace filigree
