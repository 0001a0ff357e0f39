// Which of a run's checkpoints stay, and how the others go.
#pragma once

#include <cstdint>
#include <filesystem>
#include <future>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.hpp"
#include "runtime/storage/file_system.hpp"

namespace filigree {

// Published checkpoints that the rule lets go, newest first. `just_written` counts as the newest.
// What cannot be opened is neither counted nor touched: it may be of another version. The last two
// that are intact stay whatever the rule says: `intact` holds the steps that are known to be; where
// they do not suffice, checkpoints are read to their last byte and what is intact is added.
std::vector<std::int64_t> superseded_steps(const std::filesystem::path& folder,
                                           const RetentionRule& rule,
                                           std::optional<std::int64_t> just_written,
                                           std::set<std::int64_t>& intact);

// Removes these checkpoints, and all leftovers. Returns what could not be removed, as
// warnings.
std::vector<std::string> remove_checkpoints(const std::filesystem::path& folder,
                                            const std::vector<std::int64_t>& steps,
                                            FileSystem& system);

// The older checkpoints of a run, from save to save. To free the space of a file can take a disk as
// long as to write it, so what a save supersedes is removed on a thread, beside what comes next.
// For one caller at a time.
class Retention {
 public:
  // `system` must outlive it.
  Retention(const RetentionRule& rule, FileSystem& system);
  Retention(const Retention&) = delete;
  Retention& operator=(const Retention&) = delete;

  // `step`, which is intact, has been published below `folder`: what it supersedes begins to be
  // removed, and what dead saves have left there. Until wait() no other save may begin there: its
  // folder would pass for a leftover.
  void supersede(const std::filesystem::path& folder, std::int64_t step);
  // Waits until all that was superseded is gone and its space is free. So does the destructor.
  void wait();
  // What could not be removed, up to the last wait(); each once.
  std::vector<std::string> take_warnings();

 private:
  std::vector<std::string> remove_superseded(const std::filesystem::path& folder,
                                             std::int64_t step);

  RetentionRule rule_;
  FileSystem& system_;
  std::set<std::int64_t> intact_;  // the steps that are known to be; the thread's while it runs
  std::vector<std::string> warnings_;
  std::future<std::vector<std::string>> removal_;  // of std::async: its destructor waits
};

}  // namespace filigree
