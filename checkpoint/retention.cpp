#include "checkpoint/retention.hpp"

#include <cerrno>
#include <cstring>
#include <exception>
#include <utility>

#include "checkpoint/folders.hpp"

namespace filigree {
namespace {

namespace fs = std::filesystem;

bool opens(const fs::path& folder) {
  try {
    const CheckpointReader reader(folder);
    return true;
  } catch (const UserError&) {
    return false;
  }
}

bool is_intact(const fs::path& folder) {
  try {
    CheckpointReader(folder).verify();
    return true;
  } catch (const UserError&) {
    return false;
  }
}

// Under a temporary name first: a removal that is cut short leaves a leftover, not a damaged
// checkpoint. Returns all that is to be removed.
std::vector<fs::path> put_aside(const fs::path& folder, const std::vector<std::int64_t>& steps,
                                FileSystem& system) {
  std::vector<fs::path> stuck;
  for (const std::int64_t step : steps) {
    const fs::path path = folder / step_folder_name(step);
    if (system.rename(path, folder / temporary_folder_name(step, "removed")) != 0)
      stuck.push_back(path);
  }
  std::vector<fs::path> all = leftovers_in(folder);
  all.insert(all.end(), stuck.begin(), stuck.end());
  return all;
}

// Returns those that could not be removed, as warnings.
std::vector<std::string> remove_folders(const std::vector<fs::path>& folders, FileSystem& system) {
  std::vector<std::string> warnings;
  for (const fs::path& path : folders) {
    if (system.remove(path) != 0)
      warnings.push_back(str("cannot remove the old ", path.string(), ": ", std::strerror(errno)));
  }
  return warnings;
}

}  // namespace

std::vector<std::int64_t> superseded_steps(const fs::path& folder, const RetentionRule& rule,
                                           std::optional<std::int64_t> just_written,
                                           std::set<std::int64_t>& intact) {
  constexpr std::int64_t kIntactKept = 2;
  std::vector<std::int64_t> kept, superseded;
  if (just_written) kept.push_back(*just_written);
  const auto known_intact = [&](std::int64_t step) {
    if (intact.contains(step)) return true;
    if (!is_intact(folder / step_folder_name(step))) return false;
    intact.insert(step);
    return true;
  };
  const auto enough_are_intact = [&] {
    std::int64_t count = 0;
    for (const std::int64_t step : kept)
      if (known_intact(step) && ++count == kIntactKept) return true;
    return false;
  };
  for (const std::int64_t step : published_steps(folder)) {
    if (step == just_written || !opens(folder / step_folder_name(step))) continue;
    const bool wanted = std::ssize(kept) < rule.keep || (rule.every > 0 && step % rule.every == 0);
    if (wanted || !enough_are_intact()) {
      kept.push_back(step);
    } else {
      superseded.push_back(step);
    }
  }
  return superseded;
}

std::vector<std::string> remove_checkpoints(const fs::path& folder,
                                            const std::vector<std::int64_t>& steps,
                                            FileSystem& system) {
  return remove_folders(put_aside(folder, steps, system), system);
}

Retention::Retention(const RetentionRule& rule, FileSystem& system) : rule_(rule), system_(system) {
  FILIGREE_CHECK(rule.keep >= 1, "keep is ", rule.keep);
}

// The new checkpoint is safe by now: trouble with old ones is no failure.
void Retention::supersede(const fs::path& folder, std::int64_t step) {
  FILIGREE_CHECK(!removal_.valid(), "a removal in ", folder, " is under way");
  try {
    intact_.insert(step);
    const auto superseded = superseded_steps(folder, rule_, step, intact_);
    for (const std::int64_t gone : superseded) intact_.erase(gone);
    removal_ = std::async(std::launch::async,
                          [paths = put_aside(folder, superseded, system_), &system = system_] {
                            return remove_folders(paths, system);
                          });
  } catch (const std::exception& error) {
    warnings_.push_back(str("old checkpoints in ", folder.string(), ": ", error.what()));
  }
}

void Retention::wait() {
  if (!removal_.valid()) return;
  const std::vector<std::string> warnings = removal_.get();
  warnings_.insert(warnings_.end(), warnings.begin(), warnings.end());
}

std::vector<std::string> Retention::take_warnings() { return std::exchange(warnings_, {}); }

}  // namespace filigree
