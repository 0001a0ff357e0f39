#include "runtime/storage/file_lock.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "runtime/core/error.hpp"

namespace filigree {
namespace {

std::string this_process() {
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  return str("process ", ::getpid(), " on ", host.data());
}

std::string holder(int descriptor) {
  std::array<char, 320> text{};
  const ssize_t bytes = ::pread(descriptor, text.data(), text.size(), 0);
  return bytes > 0 ? std::string(text.data(), static_cast<std::size_t>(bytes)) : "another process";
}

// For those who come in vain. Who cannot read it is still kept out.
void write_holder(int descriptor) {
  const std::string text = this_process();
  if (::ftruncate(descriptor, 0) == 0) [[maybe_unused]]
    const auto written = ::pwrite(descriptor, text.data(), text.size(), 0);
}

}  // namespace

FileLock::FileLock(const std::filesystem::path& file, const std::string& what,
                   const std::function<void(const std::string&)>& warn)
    : descriptor_(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
  if (descriptor_ >= 0 && ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0) {
    write_holder(descriptor_);
  } else if (descriptor_ >= 0 && errno == EWOULDBLOCK) {
    const std::string other = holder(descriptor_);
    ::close(descriptor_);
    throw UserError(str(what, " is in use by ", other, "; wait until that has ended, or stop it"));
  } else {
    warn(str("cannot lock ", file.string(), ": ", std::strerror(errno),
             "; make sure that nobody else uses ", what));
  }
}

FileLock::~FileLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace filigree
