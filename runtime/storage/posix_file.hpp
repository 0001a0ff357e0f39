// A file descriptor whose errors are exceptions that name the file.
#pragma once

#include <cstdint>
#include <filesystem>

#include "runtime/storage/file_system.hpp"

namespace filigree {

// Every function throws UserError naming the file, the operation and the system's reason. read_at
// and write_at move exactly the bytes asked for and may be called from several threads at once.
// `system` must outlive the file.
class PosixFile {
 public:
  static PosixFile open_for_reading(const std::filesystem::path& path,
                                    FileSystem& system = posix_file_system());
  // An existing file.
  static PosixFile open_for_writing(const std::filesystem::path& path,
                                    FileSystem& system = posix_file_system());
  // Must not exist.
  static PosixFile create(const std::filesystem::path& path,
                          FileSystem& system = posix_file_system());

  PosixFile(PosixFile&& other) noexcept;
  PosixFile& operator=(PosixFile&& other) noexcept;
  PosixFile(const PosixFile&) = delete;
  PosixFile& operator=(const PosixFile&) = delete;
  ~PosixFile();

  const std::filesystem::path& path() const { return path_; }
  std::int64_t size() const;

  void read_at(std::int64_t offset, void* out, std::int64_t bytes) const;
  void write_at(std::int64_t offset, const void* data, std::int64_t bytes) const;
  // Reserves disk space for the first `bytes` bytes now, so that a full disk shows here and not
  // halfway through.
  void allocate(std::int64_t bytes) const;
  // A hint that nothing will be written there again: the disk may begin, so that sync() waits less.
  void write_back(std::int64_t offset, std::int64_t bytes) const;
  // Until this returns, the data may be lost with the power.
  void sync() const;
  // Reports the write errors that some file systems keep back until close; the destructor cannot.
  void close();

 private:
  PosixFile(std::filesystem::path path, int flags, const char* operation, FileSystem& system);
  FileSystem* system_;
  std::filesystem::path path_;
  int descriptor_ = -1;
};

}  // namespace filigree
