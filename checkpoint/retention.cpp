#include "checkpoint/retention.hpp"

#include <cerrno>
#include <cstring>
#include <exception>
#include <system_error>
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
  std::vector<std::string> warnings;
  const auto remove = [&](const fs::path& path) {
    if (system.remove(path) == 0) return;
    warnings.push_back(str("cannot remove the old ", path.string(), ": ", std::strerror(errno)));
  };
  for (const std::int64_t step : steps) {
    const fs::path path = folder / step_folder_name(step);
    // Under a temporary name first: a removal that is cut short leaves a leftover, not a damaged
    // checkpoint.
    const fs::path leaving = folder / temporary_folder_name(step, "removed");
    remove(system.rename(path, leaving) == 0 ? leaving : path);
  }
  for (const fs::path& path : leftovers_in(folder)) remove(path);
  return warnings;
}

Retention::Retention(const RetentionRule& rule, FileSystem& system) : rule_(rule), system_(system) {
  FILIGREE_CHECK(rule.keep >= 1, "keep is ", rule.keep);
}

// The new checkpoint is safe by now: trouble with old ones is no failure.
void Retention::supersede(const fs::path& folder, std::int64_t step) {
  wait();
  intact_.insert(step);
  try {
    removal_ = std::async(std::launch::async,
                          [this, folder, step] { return remove_superseded(folder, step); });
  } catch (const std::system_error& error) {
    warnings_.push_back(str("nothing old was removed in ", folder.string(), ": ", error.what()));
  }
}

std::vector<std::string> Retention::remove_superseded(const fs::path& folder, std::int64_t step) {
  try {
    const auto superseded = superseded_steps(folder, rule_, step, intact_);
    for (const std::int64_t gone : superseded) intact_.erase(gone);
    return remove_checkpoints(folder, superseded, system_);
  } catch (const std::exception& error) {
    return {error.what()};
  }
}

void Retention::wait() {
  if (!removal_.valid()) return;
  const std::vector<std::string> warnings = removal_.get();
  warnings_.insert(warnings_.end(), warnings.begin(), warnings.end());
}

std::vector<std::string> Retention::take_warnings() { return std::exchange(warnings_, {}); }

}  // namespace filigree
