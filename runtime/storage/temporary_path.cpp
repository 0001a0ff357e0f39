#include "runtime/storage/temporary_path.hpp"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <mutex>
#include <set>
#include <system_error>
#include <thread>
#include <utility>

#include "runtime/core/error.hpp"

namespace filigree {
namespace {

namespace fs = std::filesystem;

constexpr std::array kEndingSignals = {SIGINT, SIGTERM, SIGHUP};

// A signal handler may do next to nothing: it wakes the thread that does the rest.
volatile std::sig_atomic_t wake_descriptor = -1;
void wake(int signal) {
  const int error = errno;
  const auto byte = static_cast<char>(signal);
  [[maybe_unused]] const ssize_t written = ::write(wake_descriptor, &byte, 1);
  errno = error;
}

void remove_quietly(const fs::path& path) {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

// The temporary paths of this process.
class TemporaryPaths {
 public:
  TemporaryPaths() {
    if (::pipe(pipe_.data()) != 0)
      throw UserError(str("cannot open a pipe: ", std::strerror(errno)));
    wake_descriptor = pipe_[1];
    thread_ = std::thread([this] { wait_for_signal(); });
  }
  ~TemporaryPaths() {
    wake(kNoSignal);
    thread_.join();
    for (const int descriptor : pipe_) ::close(descriptor);
  }
  TemporaryPaths(const TemporaryPaths&) = delete;
  TemporaryPaths& operator=(const TemporaryPaths&) = delete;

  void add(const fs::path& path) {
    const std::lock_guard lock(mutex_);
    if (paths_.empty()) handle_signals();
    paths_.insert(path);
  }
  // With `body`, which no removal meets. Forgets the path unless that throws.
  void take_out(const fs::path& path, const std::function<void()>& body) {
    const std::lock_guard lock(mutex_);
    body();
    if (paths_.erase(path) == 1 && paths_.empty()) leave_signals();
  }

 private:
  static constexpr int kNoSignal = 0;
  static constexpr int kTries = 3;

  void handle_signals() {
    struct sigaction ours {};
    ours.sa_handler = wake;
    ours.sa_flags = SA_RESTART | static_cast<int>(SA_RESETHAND);
    for (std::size_t i = 0; i < kEndingSignals.size(); ++i) {
      ::sigaction(kEndingSignals[i], nullptr, &before_[i]);
      if (before_[i].sa_handler == SIG_DFL) ::sigaction(kEndingSignals[i], &ours, nullptr);
    }
  }
  void leave_signals() {
    for (std::size_t i = 0; i < kEndingSignals.size(); ++i)
      if (before_[i].sa_handler == SIG_DFL) ::sigaction(kEndingSignals[i], &before_[i], nullptr);
  }
  // Never lets go of the paths once a signal came, so that nobody goes on with what is removed.
  void wait_for_signal() {
    char signal = kNoSignal;
    if (::read(pipe_[0], &signal, 1) != 1 || signal == kNoSignal) return;
    const std::lock_guard lock(mutex_);
    for (int i = 0; i < kTries; ++i)  // other threads may still make files in a folder
      for (const fs::path& path : paths_) remove_quietly(path);
    ::raise(signal);
  }

  std::array<int, 2> pipe_{};
  std::mutex mutex_;
  std::set<fs::path> paths_;
  std::array<struct sigaction, kEndingSignals.size()> before_{};
  std::thread thread_;
};

TemporaryPaths& temporary_paths() {
  static TemporaryPaths paths;
  return paths;
}

}  // namespace

TemporaryPath::TemporaryPath(fs::path target) : path_(std::move(target)) {
  path_ += str(".tmp.", ::getpid());
  remove_quietly(path_);
  temporary_paths().add(path_);
}

TemporaryPath::~TemporaryPath() {
  if (!path_.empty()) temporary_paths().take_out(path_, [this] { remove_quietly(path_); });
}

void TemporaryPath::publish(const std::function<void()>& rename) {
  temporary_paths().take_out(path_, rename);
  path_.clear();
}

}  // namespace filigree
