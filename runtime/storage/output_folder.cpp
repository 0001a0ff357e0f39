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

fs::path beside(const fs::path& target, const char* kind) {
  fs::path path = target;
  path += str(kind, ::getpid());
  return path;
}

}  // namespace

OutputFolder::OutputFolder(const fs::path& target, bool overwrite, const std::string& marker) {
  // Without a trailing slash, so that names beside it can be made.
  target_ = (fs::absolute(target) / "").lexically_normal().parent_path();
  temporary_ = beside(target_, ".tmp.");
  try {
    check_target(target_, overwrite, marker);
    fs::create_directories(target_.parent_path());
    fs::remove_all(temporary_);  // of an earlier process with our id
    fs::create_directory(temporary_);
  } catch (const fs::filesystem_error& error) {
    throw UserError(str("output ", target.string(), ": cannot make the folder ",
                        error.path1().string(), ": ", error.code().message()));
  }
}

OutputFolder::~OutputFolder() {
  std::error_code ignored;
  if (!temporary_.empty()) fs::remove_all(temporary_, ignored);
}

void OutputFolder::publish() {
  sync_folder(temporary_);
  const bool replaces = fs::exists(target_) && !fs::is_empty(target_);
  const fs::path old = beside(target_, ".old.");
  if (replaces) rename_durably(target_, old);
  try {
    rename_durably(temporary_, target_);
  } catch (...) {
    std::error_code ignored;  // the first failure is what there is to say
    if (replaces) fs::rename(old, target_, ignored);
    throw;
  }
  temporary_.clear();
  std::error_code ignored;
  if (replaces) fs::remove_all(old, ignored);
}

}  // namespace filigree
