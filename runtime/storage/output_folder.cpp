#include "runtime/storage/output_folder.hpp"

#include <unistd.h>

#include <system_error>

#include "runtime/core/error.hpp"
#include "runtime/storage/atomic_file.hpp"

namespace filigree {
namespace {

namespace fs = std::filesystem;

void check_target(const fs::path& target, bool overwrite, const std::string& marker) {
  if (!fs::exists(target)) return;
  if (!fs::is_directory(target)) {
    throw UserError(str("output ", target.string(), ": it is a file, a folder is needed"));
  }
  if (fs::is_empty(target)) return;
  if (!overwrite) {
    throw UserError(str("output ", target.string(),
                        ": the folder exists and is not empty; choose another or use --overwrite"));
  }
  if (!fs::exists(target / marker)) {
    throw UserError(str("output ", target.string(),
                        ": --overwrite replaces folders that this command has made, and this one "
                        "has no ",
                        marker, "; remove it yourself"));
  }
}

// Without a trailing slash, so that names beside it can be made.
fs::path without_slash(const fs::path& folder) {
  return (fs::absolute(folder) / "").lexically_normal().parent_path();
}

// `from` takes the place of `to`, with one rename where there is nothing.
void put(const fs::path& from, const fs::path& to) {
  const bool replaces = fs::exists(to) && !fs::is_empty(to);
  fs::path old = to;
  old += str(".old.", ::getpid());
  if (replaces) rename_durably(to, old);
  try {
    rename_durably(from, to);
  } catch (...) {
    std::error_code ignored;  // the first failure is what there is to say
    if (replaces) fs::rename(old, to, ignored);
    throw;
  }
  std::error_code ignored;
  if (replaces) fs::remove_all(old, ignored);
}

}  // namespace

OutputFolder::OutputFolder(const fs::path& target, bool overwrite, const std::string& marker)
    : target_(without_slash(target)), temporary_(target_) {
  try {
    check_target(target_, overwrite, marker);
    fs::create_directories(target_.parent_path());
    fs::create_directory(path());
  } catch (const fs::filesystem_error& error) {
    throw UserError(str("output ", target.string(), ": cannot make the folder ",
                        error.path1().string(), ": ", error.code().message()));
  }
}

void OutputFolder::publish() {
  sync_folder(path());
  temporary_.publish([this] { put(path(), target_); });
}

}  // namespace filigree
