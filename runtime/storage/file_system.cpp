#include "runtime/storage/file_system.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <limits>
#include <system_error>

namespace filigree {

int FileSystem::open(const std::filesystem::path& path, int flags) {
  return ::open(path.c_str(), flags | O_CLOEXEC, 0666);
}

ssize_t FileSystem::read(int descriptor, void* out, std::size_t bytes, std::int64_t offset) {
  return ::pread(descriptor, out, bytes, offset);
}

ssize_t FileSystem::write(int descriptor, const void* data, std::size_t bytes,
                          std::int64_t offset) {
  return ::pwrite(descriptor, data, bytes, offset);
}

int FileSystem::allocate(int descriptor, std::int64_t bytes) {
  errno = ::posix_fallocate(descriptor, 0, bytes);
  return errno == 0 ? 0 : -1;
}

int FileSystem::write_back(int descriptor, std::int64_t offset, std::int64_t bytes) {
  return ::sync_file_range(descriptor, offset, bytes, SYNC_FILE_RANGE_WRITE);
}

int FileSystem::sync(int descriptor) { return ::fsync(descriptor); }

int FileSystem::close(int descriptor) { return ::close(descriptor); }

int FileSystem::make_folder(const std::filesystem::path& path) {
  return ::mkdir(path.c_str(), 0777);
}

int FileSystem::rename(const std::filesystem::path& from, const std::filesystem::path& to) {
  return std::rename(from.c_str(), to.c_str());
}

int FileSystem::exchange(const std::filesystem::path& left, const std::filesystem::path& right) {
  return ::renameat2(AT_FDCWD, left.c_str(), AT_FDCWD, right.c_str(), RENAME_EXCHANGE);
}

int FileSystem::remove(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  errno = error.value();
  return error ? -1 : 0;
}

std::int64_t FileSystem::free_bytes(const std::filesystem::path& folder) {
  std::error_code unknown;
  const auto space = std::filesystem::space(folder, unknown);
  constexpr auto kMost = static_cast<std::uintmax_t>(std::numeric_limits<std::int64_t>::max());
  return unknown || space.available > kMost ? -1 : static_cast<std::int64_t>(space.available);
}

FileSystem& posix_file_system() {
  static FileSystem system;
  return system;
}

}  // namespace filigree
