#include "checkpoint/folders.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <functional>
#include <system_error>

#include "checkpoint/checkpoint.hpp"
#include "runtime/storage/atomic_file.hpp"

namespace filigree {
namespace {

namespace fs = std::filesystem;

constexpr char kPrefix[] = "step_";
constexpr char kTemporary[] = ".tmp.";

bool opens(const fs::path& folder) {
  try {
    const CheckpointReader reader(folder);
    return true;
  } catch (const UserError&) {
    return false;
  }
}

// Swaps two names in one step; false where the file system cannot.
bool exchange_names(const fs::path& left, const fs::path& right) {
  return ::renameat2(AT_FDCWD, left.c_str(), AT_FDCWD, right.c_str(), RENAME_EXCHANGE) == 0;
}

void swap_in(const fs::path& temporary, const fs::path& target) {
  if (exchange_names(temporary, target)) return;
  // Two renames: for a moment there is no folder of this name, but the older checkpoints are.
  const fs::path aside = temporary.string() + ".replaced";
  fs::rename(target, aside);
  std::error_code failed;
  fs::rename(temporary, target, failed);
  if (failed) {
    fs::rename(aside, target);
    throw fs::filesystem_error("cannot rename", temporary, target, failed);
  }
  fs::rename(aside, temporary);
}

}  // namespace

std::string step_folder_name(std::int64_t step) {
  char name[32];
  std::snprintf(name, sizeof(name), "step_%08lld", static_cast<long long>(step));
  return name;
}

std::optional<std::int64_t> step_of_folder_name(const std::string& name) {
  if (name.rfind(kPrefix, 0) != 0) return std::nullopt;
  std::int64_t step = 0;
  const char* begin = name.data() + sizeof(kPrefix) - 1;
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(begin, end, step);
  if (error != std::errc() || stop != end || step < 0) return std::nullopt;
  // Exactly the name this step has: two folders never stand for one step.
  if (name != step_folder_name(step)) return std::nullopt;
  return step;
}

std::string temporary_folder_name(std::int64_t step, const std::string& nonce) {
  return step_folder_name(step) + kTemporary + nonce;
}

std::vector<std::int64_t> published_steps(const fs::path& folder) {
  std::vector<std::int64_t> steps;
  std::error_code error;
  if (!fs::exists(folder, error) && !error) return steps;
  try {
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
      const auto step = step_of_folder_name(entry.path().filename().string());
      if (step && entry.is_directory()) steps.push_back(*step);
    }
  } catch (const fs::filesystem_error& failure) {
    throw UserError(
        str("cannot list the checkpoints in ", folder.string(), ": ", failure.code().message()));
  }
  std::sort(steps.begin(), steps.end(), std::greater<>());
  return steps;
}

void publish(const fs::path& temporary, const fs::path& target) {
  const bool replaces = fs::exists(target);
  try {
    if (replaces) {
      swap_in(temporary, target);
    } else {
      fs::rename(temporary, target);
    }
  } catch (const fs::filesystem_error& failure) {
    throw UserError(str("cannot rename ", temporary.string(), " to ", target.string(), ": ",
                        failure.code().message()));
  }
  try {
    sync_folder(target.parent_path());
  } catch (const UserError&) {
    // Not known to last: take it back, so that "failed" always means "nothing changed".
    std::error_code ignored;
    if (replaces) {
      exchange_names(temporary, target);
    } else {
      fs::rename(target, temporary, ignored);
    }
    throw;
  }
}

std::vector<std::string> retire_checkpoints(const fs::path& folder, std::int64_t just_written,
                                            std::int64_t keep) {
  std::vector<std::string> warnings;
  const auto remove = [&](const fs::path& path) {
    std::error_code error;
    fs::remove_all(path, error);
    if (error) {
      warnings.push_back(str("cannot remove the old ", path.string(), ": ", error.message()));
    }
  };
  std::int64_t kept = 1;
  for (const std::int64_t step : published_steps(folder)) {
    const fs::path path = folder / step_folder_name(step);
    if (step == just_written || !opens(path) || ++kept <= keep) continue;
    // Under a temporary name first: a removal that is cut short leaves a leftover, not a damaged
    // checkpoint.
    const fs::path leaving = folder / temporary_folder_name(step, "removed");
    std::error_code error;
    fs::rename(path, leaving, error);
    remove(error ? path : leaving);
  }
  std::vector<fs::path> leftovers;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    const std::size_t mark = name.find(kTemporary);
    if (mark != std::string::npos && step_of_folder_name(name.substr(0, mark))) {
      leftovers.push_back(entry->path());
    }
  }
  for (const fs::path& path : leftovers) remove(path);
  return warnings;
}

std::optional<fs::path> newest_checkpoint(const fs::path& folder,
                                          const std::function<void(const std::string&)>& warn) {
  for (const std::int64_t step : published_steps(folder)) {
    const fs::path path = folder / step_folder_name(step);
    try {
      CheckpointReader(path).verify();
      return path;
    } catch (const UserError& error) {
      warn(str("passing over checkpoint ", path.string(), ": ", error.what()));
    }
  }
  return std::nullopt;
}

}  // namespace filigree
