// A file that one process at a time holds.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

namespace filigree {

// The system lets go of it when the process ends, however it does. The file stays.
class FileLock {
 public:
  // Makes the file where it is not there, and writes into it who holds it. Throws UserError that
  // says `what` is in use and by whom. Where the file system has no locks, nothing is held, and
  // `warn` is told.
  FileLock(const std::filesystem::path& file, const std::string& what,
           const std::function<void(const std::string&)>& warn);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int descriptor_ = -1;
};

}  // namespace filigree
