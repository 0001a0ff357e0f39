#include "checkpoint/folders.hpp"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <functional>
#include <system_error>

#include "runtime/storage/atomic_file.hpp"

namespace filigree {
namespace {

namespace fs = std::filesystem;

constexpr char kPrefix[] = "step_";
constexpr char kTemporary[] = ".tmp.";

[[noreturn]] void cannot_rename(const fs::path& from, const fs::path& to, int error) {
  throw UserError(
      str("cannot rename ", from.string(), " to ", to.string(), ": ", std::strerror(error)));
}

void rename(const fs::path& from, const fs::path& to, FileSystem& system) {
  if (system.rename(from, to) != 0) cannot_rename(from, to, errno);
}

void swap_in(const fs::path& temporary, const fs::path& target, FileSystem& system) {
  if (system.exchange(temporary, target) == 0) return;
  if (errno != EINVAL && errno != ENOSYS && errno != ENOTSUP)
    cannot_rename(temporary, target, errno);
  // Two renames: for a moment there is no folder of this name, but the older checkpoints are.
  const fs::path aside = temporary.string() + ".replaced";
  rename(target, aside, system);
  if (system.rename(temporary, target) != 0) {
    const int error = errno;
    rename(aside, target, system);
    cannot_rename(temporary, target, error);
  }
  rename(aside, temporary, system);
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

bool is_temporary_folder_name(const std::string& name) {
  const std::size_t mark = name.find(kTemporary);
  return mark != std::string::npos && step_of_folder_name(name.substr(0, mark));
}

std::string list_of_steps(const fs::path& folder) {
  std::string text;
  for (const std::int64_t step : published_steps(folder))
    text = str(step, text.empty() ? "" : ", ", text);
  return text;
}

std::unique_ptr<FileLock> lock_checkpoints(const fs::path& folder,
                                           const std::function<void(const std::string&)>& warn) {
  return std::make_unique<FileLock>(folder / "lock", str("checkpoint folder ", folder.string()),
                                    warn);
}

std::vector<fs::path> leftovers_in(const fs::path& folder) {
  std::vector<fs::path> leftovers;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    if (is_temporary_folder_name(entry->path().filename().string()))
      leftovers.push_back(entry->path());
  }
  std::sort(leftovers.begin(), leftovers.end());
  return leftovers;
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

void publish(const fs::path& temporary, const fs::path& target, FileSystem& system) {
  const bool replaces = fs::exists(target);
  if (replaces) {
    swap_in(temporary, target, system);
  } else {
    rename(temporary, target, system);
  }
  try {
    sync_folder(target.parent_path(), system);
  } catch (const UserError&) {
    // Not known to last: take it back, so that "failed" always means "nothing changed".
    if (replaces) {
      system.exchange(temporary, target);
    } else {
      system.rename(target, temporary);
    }
    throw;
  }
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
