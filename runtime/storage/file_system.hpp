// The calls to the operating system that read, write and rename files, in one place: what happens
// when one of them fails, is cut short, or is a process's last is then a matter of a test's own
// FileSystem.
#pragma once

#include <sys/types.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>

namespace filigree {

// Every function is one call and reports like it: -1 and errno, unless it says otherwise.
// Stateless and thread-safe.
class FileSystem {
 public:
  FileSystem() = default;
  FileSystem(const FileSystem&) = delete;
  FileSystem& operator=(const FileSystem&) = delete;
  virtual ~FileSystem() = default;

  virtual int open(const std::filesystem::path& path, int flags);
  virtual ssize_t read(int descriptor, void* out, std::size_t bytes, std::int64_t offset);
  virtual ssize_t write(int descriptor, const void* data, std::size_t bytes, std::int64_t offset);
  virtual int allocate(int descriptor, std::int64_t bytes);
  // Begins to move these bytes to the disk, and waits for nothing: sync() says what became of them.
  virtual int write_back(int descriptor, std::int64_t offset, std::int64_t bytes);
  virtual int sync(int descriptor);
  virtual int close(int descriptor);

  virtual int make_folder(const std::filesystem::path& path);
  virtual int rename(const std::filesystem::path& from, const std::filesystem::path& to);
  // Both names change places in one step. Not every file system can: EINVAL, ENOSYS.
  virtual int exchange(const std::filesystem::path& left, const std::filesystem::path& right);
  // With everything in it.
  virtual int remove(const std::filesystem::path& path);
  // Of the disk that holds `folder`, for this process; -1 where the system does not say.
  virtual std::int64_t free_bytes(const std::filesystem::path& folder);
};

// The machine's own.
FileSystem& posix_file_system();

// Makes a call of the above again for as long as signals interrupt it.
template <typename Call>
auto uninterrupted(Call call) {
  while (true) {
    const auto result = call();
    if (result >= 0 || errno != EINTR) return result;
  }
}

}  // namespace filigree
