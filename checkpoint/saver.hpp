// Saving while training goes on.
#pragma once

#include <atomic>
#include <chrono>
#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "checkpoint/checkpoint.hpp"
#include "checkpoint/retention.hpp"
#include "runtime/core/execution.hpp"

namespace filigree {

// How a save ended; the same on every rank, but for the times.
struct SaveReport {
  std::int64_t step = 0;
  SavedCheckpoint saved;     // where nothing failed
  std::string failure;       // why nothing was published; "": it was
  double pause_seconds = 0;  // in which this rank did nothing else
  double total_seconds = 0;  // from the start to the end
  bool failed() const { return !failure.empty(); }
};

// The saves of a run. In the background, the caller waits for a few small messages between ranks. A
// thread copies what this rank writes of the tensors, which the caller may read meanwhile but not
// change: a training step does not before its gradients are there. What is on an accelerator is
// copied before the caller goes on, since its stream takes work from one thread. Hashing, writing
// and flushing, and the publication follow on that thread. Ranks talk to each other in these calls
// only, so the communicator is never used by two threads. The copy's memory is kept for the next
// save. What a save supersedes is removed when it has ended, beside whatever comes next, in the
// foreground too.
class CheckpointSaver {
 public:
  struct Options {
    RetentionRule rule;
    bool background = true;  // false: start() does it all
    FileSystem* system = &posix_file_system();
    ExecutionContext context = {};  // of the tensors
  };
  // `world` must outlive it.
  CheckpointSaver(std::filesystem::path folder, Communicator& world, const Options& options);
  // Waits for its threads; a save that has not been finished leaves nothing.
  ~CheckpointSaver();
  CheckpointSaver(const CheckpointSaver&) = delete;
  CheckpointSaver& operator=(const CheckpointSaver&) = delete;

  bool busy() const { return save_ != nullptr; }  // the same on every rank

  // The rest is collective. A report is returned once, when the save has ended.
  //
  // Takes up a save as CheckpointSave does; not while busy().
  std::optional<SaveReport> start(const CheckpointInfo& info, std::vector<NamedTensor> tensors);
  // To be called before the tensors of a save that was started change. Not collective.
  void wait_for_copy();
  // To be called now and then: goes on when all ranks can. Waits for nobody's disk.
  std::optional<SaveReport> poll();
  // Waits until the save has ended; only while busy().
  SaveReport finish();
  // After the last save: waits until all that was superseded is removed, and returns the warnings
  // that no report had. Not while busy(). Not collective: rank 0 removes.
  std::vector<std::string> wait_for_removal();

 private:
  enum class Stage { writing, publishing };
  using Clock = std::chrono::steady_clock;

  template <class Body>
  std::optional<SaveReport> paused(Body&& body);
  void begin(Stage stage);
  void run_stage();
  void copy_tensors();
  Tensor values_of(std::size_t index);
  bool all_ranks_are_done();
  bool advance();

  std::filesystem::path folder_;
  Communicator& world_;
  Options options_;
  Retention retention_;
  std::vector<NamedTensor> tensors_;
  std::vector<Tensor> copies_;       // of those that this rank writes; in the background
  std::shared_future<void> copied_;  // deferred: made by whoever first asks for it
  std::unique_ptr<CheckpointSave> save_;
  SaveReport report_;
  Stage stage_ = Stage::writing;
  Clock::time_point started_;
  std::thread thread_;
  std::atomic<bool> done_{false};
};

}  // namespace filigree
