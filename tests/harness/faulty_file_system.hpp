// A file system whose calls a test counts, lets fail, cuts short, or lets be a process's last.
#pragma once

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <string>

#include "runtime/storage/file_system.hpp"

namespace filigree::testing {

class FaultyFileSystem : public FileSystem {
 public:
  // Calls are numbered from 1 in the order in which they come, whatever thread they come from.
  std::int64_t fail_from = 0, fail_to = 0;  // these calls fail...
  int error = EIO;                          // ...with this
  std::string only;                         // ...if they are "write", "sync", ...; "": all
  std::string within;                       // ...and their path contains this; "": any, or none
  std::int64_t die_at = 0;                  // before this call the process is killed
  std::size_t longest_transfer = 0;         // a read or a write moves no more; 0: as asked
  int interrupted_every = 0;                // every so many calls: EINTR first

  std::int64_t calls() const { return calls_; }

  int open(const std::filesystem::path& path, int flags) override {
    return fails("open", path) ? -1 : FileSystem::open(path, flags);
  }
  ssize_t read(int descriptor, void* out, std::size_t bytes, std::int64_t offset) override {
    return fails("read") ? -1 : FileSystem::read(descriptor, out, shortened(bytes), offset);
  }
  ssize_t write(int descriptor, const void* data, std::size_t bytes, std::int64_t offset) override {
    return fails("write") ? -1 : FileSystem::write(descriptor, data, shortened(bytes), offset);
  }
  int allocate(int descriptor, std::int64_t bytes) override {
    return fails("allocate") ? -1 : FileSystem::allocate(descriptor, bytes);
  }
  int write_back(int descriptor, std::int64_t offset, std::int64_t bytes) override {
    return fails("write_back") ? -1 : FileSystem::write_back(descriptor, offset, bytes);
  }
  int sync(int descriptor) override { return fails("sync") ? -1 : FileSystem::sync(descriptor); }
  int close(int descriptor) override {
    const bool failed = fails("close");
    const int failure = errno;
    const int closed = FileSystem::close(descriptor);  // as Linux does, whatever it reports
    if (failed) errno = failure;
    return failed ? -1 : closed;
  }
  int make_folder(const std::filesystem::path& path) override {
    return fails("make_folder", path) ? -1 : FileSystem::make_folder(path);
  }
  int rename(const std::filesystem::path& from, const std::filesystem::path& to) override {
    return fails("rename", to) ? -1 : FileSystem::rename(from, to);
  }
  int exchange(const std::filesystem::path& left, const std::filesystem::path& right) override {
    return fails("exchange", right) ? -1 : FileSystem::exchange(left, right);
  }
  int remove(const std::filesystem::path& path) override {
    return fails("remove", path) ? -1 : FileSystem::remove(path);
  }
  std::int64_t free_bytes(const std::filesystem::path& folder) override {
    return fails("free_bytes", folder) ? -1 : FileSystem::free_bytes(folder);
  }

 private:
  bool fails(const char* call, const std::filesystem::path& path = {}) {
    const std::int64_t number = ++calls_;
    if (number == die_at) ::kill(::getpid(), SIGKILL);
    if (number >= fail_from && number <= fail_to && (only.empty() || only == call) &&
        path.native().find(within) != std::string::npos) {
      errno = error;
      return true;
    }
    if (interrupted_every > 0 && number % interrupted_every == 0) {
      const std::string name = call;
      if (name == "read" || name == "write" || name == "sync" || name == "allocate" ||
          name == "open") {
        errno = EINTR;
        return true;
      }
    }
    return false;
  }
  std::size_t shortened(std::size_t bytes) const {
    return longest_transfer == 0 ? bytes : std::min(bytes, longest_transfer);
  }

  std::atomic<std::int64_t> calls_{0};
};

}  // namespace filigree::testing
