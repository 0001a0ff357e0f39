#include "runtime/storage/posix_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "runtime/core/error.hpp"

namespace filigree {
namespace {

// Linux moves at most 2 GiB - 4 KiB a call.
constexpr std::int64_t kLargestTransfer = std::int64_t{1} << 30;

[[noreturn]] void fail(const char* operation, const std::filesystem::path& path, int error) {
  std::string hint;
  if (error == ENOSPC || error == EDQUOT) hint = "; free space there or choose another folder";
  throw UserError(str("cannot ", operation, " ", path.string(), ": ", std::strerror(error), hint));
}

int open_file(const std::filesystem::path& path, int flags, const char* operation) {
  int descriptor = -1;
  do {
    descriptor = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
  } while (descriptor < 0 && errno == EINTR);
  if (descriptor < 0) fail(operation, path, errno);
  return descriptor;
}

}  // namespace

PosixFile::PosixFile(std::filesystem::path path, int descriptor)
    : path_(std::move(path)), descriptor_(descriptor) {}

PosixFile PosixFile::open_for_reading(const std::filesystem::path& path) {
  return {path, open_file(path, O_RDONLY, "open")};
}

PosixFile PosixFile::open_for_writing(const std::filesystem::path& path) {
  return {path, open_file(path, O_RDWR, "open for writing")};
}

PosixFile PosixFile::create(const std::filesystem::path& path) {
  return {path, open_file(path, O_RDWR | O_CREAT | O_EXCL, "create")};
}

PosixFile::PosixFile(PosixFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

PosixFile& PosixFile::operator=(PosixFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

PosixFile::~PosixFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

std::int64_t PosixFile::size() const {
  struct stat info {};
  if (::fstat(descriptor_, &info) != 0) fail("examine", path_, errno);
  return info.st_size;
}

void PosixFile::read_at(std::int64_t offset, void* out, std::int64_t bytes) const {
  auto* target = static_cast<char*>(out);
  std::int64_t done = 0;
  while (done < bytes) {
    const auto count = static_cast<std::size_t>(std::min(bytes - done, kLargestTransfer));
    const ssize_t moved = ::pread(descriptor_, target + done, count, offset + done);
    if (moved < 0 && errno == EINTR) continue;
    if (moved < 0) fail("read", path_, errno);
    if (moved == 0) {
      throw UserError(str("cannot read ", path_.string(), ": it ends at byte ", offset + done,
                          " but bytes up to ", offset + bytes,
                          " are needed; the file is truncated"));
    }
    done += moved;
  }
}

void PosixFile::write_at(std::int64_t offset, const void* data, std::int64_t bytes) const {
  const auto* source = static_cast<const char*>(data);
  std::int64_t done = 0;
  while (done < bytes) {
    const auto count = static_cast<std::size_t>(std::min(bytes - done, kLargestTransfer));
    const ssize_t moved = ::pwrite(descriptor_, source + done, count, offset + done);
    if (moved < 0 && errno == EINTR) continue;
    if (moved < 0) fail("write", path_, errno);
    done += moved;
  }
}

void PosixFile::allocate(std::int64_t bytes) const {
  if (bytes <= 0) return;
  int error = EINTR;
  while (error == EINTR) error = ::posix_fallocate(descriptor_, 0, bytes);
  if (error != 0) fail("reserve space for", path_, error);
}

void PosixFile::sync() const {
  while (::fsync(descriptor_) != 0) {
    if (errno != EINTR) fail("flush to disk", path_, errno);
  }
}

void PosixFile::close() {
  const int descriptor = std::exchange(descriptor_, -1);
  // Linux frees the descriptor even when close() is interrupted; trying again could close someone
  // else's.
  if (descriptor >= 0 && ::close(descriptor) != 0 && errno != EINTR) fail("close", path_, errno);
}

}  // namespace filigree
