#include "runtime/storage/atomic_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "runtime/core/error.hpp"
#include "runtime/storage/posix_file.hpp"

namespace filigree {
namespace {

std::filesystem::path folder_of(const std::filesystem::path& path) {
  const std::filesystem::path parent = path.parent_path();
  return parent.empty() ? std::filesystem::path(".") : parent;
}

}  // namespace

void write_file_atomically(const std::filesystem::path& path, std::string_view bytes,
                           FileSystem& system) {
  std::filesystem::path temporary = path;
  temporary += str(".tmp.", ::getpid());
  system.remove(temporary);  // of an earlier process with our id
  try {
    PosixFile file = PosixFile::create(temporary, system);
    file.write_at(0, bytes.data(), static_cast<std::int64_t>(bytes.size()));
    file.sync();
    file.close();
    rename_durably(temporary, path, system);
  } catch (...) {
    system.remove(temporary);
    throw;
  }
}

std::string read_file(const std::filesystem::path& path, std::int64_t most_bytes) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    throw UserError(str("cannot read ", path.string(), ": it is a folder, a file is needed"));
  }
  const PosixFile file = PosixFile::open_for_reading(path);
  const std::int64_t size = file.size();
  if (size > most_bytes) {
    throw UserError(str("cannot read ", path.string(), ": it has ", size, " bytes, at most ",
                        most_bytes, " are expected of such a file"));
  }
  std::string bytes(static_cast<std::size_t>(size), '\0');
  file.read_at(0, bytes.data(), size);
  return bytes;
}

void sync_folder(const std::filesystem::path& folder, FileSystem& system) {
  const int descriptor = uninterrupted([&] { return system.open(folder, O_RDONLY | O_DIRECTORY); });
  const int synced = descriptor < 0 ? -1 : uninterrupted([&] { return system.sync(descriptor); });
  const int error = errno;
  if (descriptor >= 0) system.close(descriptor);
  // Some network file systems have no fsync for folders; their renames are as lasting as they get.
  if (synced != 0 && error != EINVAL && error != ENOTSUP) {
    throw UserError(
        str("cannot flush folder ", folder.string(), " to disk: ", std::strerror(error)));
  }
}

void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to,
                    FileSystem& system) {
  if (system.rename(from, to) != 0) {
    throw UserError(
        str("cannot rename ", from.string(), " to ", to.string(), ": ", std::strerror(errno)));
  }
  sync_folder(folder_of(to), system);
}

}  // namespace filigree
