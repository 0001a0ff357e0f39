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
// long as to write it: what a save supersedes loses its name at once, and a thread removes it while
// others go on. For one thread at a time.
class Retention {
 public:
  // `system` must outlive it.
  Retention(const RetentionRule& rule, FileSystem& system);
  // Waits for the removal.
  ~Retention() = default;
  Retention(const Retention&) = delete;
  Retention& operator=(const Retention&) = delete;

  // `step`, which is intact, has been published below `folder`: what it supersedes, and what dead
  // saves have left there, is no checkpoint any more and begins to be removed. Not while a removal
  // or another save goes on there, whose folder would look like a leftover.
  void supersede(const std::filesystem::path& folder, std::int64_t step);
  // Waits until all that was superseded is removed, so that its space is free.
  void wait();
  // What went wrong in all of this, but for a removal that goes on; each once.
  std::vector<std::string> take_warnings();

 private:
  RetentionRule rule_;
  FileSystem& system_;
  std::set<std::int64_t> intact_;
  std::vector<std::string> warnings_;
  std::future<std::vector<std::string>> removal_;  // of std::async: its destructor waits
};

}  // namespace filigree
