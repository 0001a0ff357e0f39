#include "runtime/storage/posix_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>

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

}  // namespace

PosixFile::PosixFile(std::filesystem::path path, int flags, const char* operation,
                     FileSystem& system)
    : system_(&system), path_(std::move(path)) {
  descriptor_ = uninterrupted([&] { return system_->open(path_, flags); });
  if (descriptor_ < 0) fail(operation, path_, errno);
}

PosixFile PosixFile::open_for_reading(const std::filesystem::path& path, FileSystem& system) {
  return {path, O_RDONLY, "open", system};
}

PosixFile PosixFile::open_for_writing(const std::filesystem::path& path, FileSystem& system) {
  return {path, O_RDWR, "open for writing", system};
}

PosixFile PosixFile::create(const std::filesystem::path& path, FileSystem& system) {
  return {path, O_RDWR | O_CREAT | O_EXCL, "create", system};
}

PosixFile::PosixFile(PosixFile&& other) noexcept
    : system_(other.system_),
      path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

PosixFile& PosixFile::operator=(PosixFile&& other) noexcept {
  std::swap(system_, other.system_);
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

PosixFile::~PosixFile() {
  if (descriptor_ >= 0) system_->close(descriptor_);
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
    const ssize_t moved = uninterrupted(
        [&] { return system_->read(descriptor_, target + done, count, offset + done); });
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
    const ssize_t moved = uninterrupted(
        [&] { return system_->write(descriptor_, source + done, count, offset + done); });
    if (moved <= 0) fail("write", path_, moved < 0 ? errno : EIO);
    done += moved;
  }
}

void PosixFile::allocate(std::int64_t bytes) const {
  if (bytes <= 0) return;
  if (uninterrupted([&] { return system_->allocate(descriptor_, bytes); }) != 0)
    fail("reserve space for", path_, errno);
}

void PosixFile::write_back(std::int64_t offset, std::int64_t bytes) const {
  system_->write_back(descriptor_, offset, bytes);
}

void PosixFile::sync() const {
  if (uninterrupted([&] { return system_->sync(descriptor_); }) != 0)
    fail("flush to disk", path_, errno);
}

void PosixFile::close() {
  const int descriptor = std::exchange(descriptor_, -1);
  // Linux frees the descriptor even when close() is interrupted; trying again could close someone
  // else's.
  if (descriptor >= 0 && system_->close(descriptor) != 0 && errno != EINTR)
    fail("close", path_, errno);
}

}  // namespace filigree
