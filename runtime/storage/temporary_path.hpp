// A file or folder on its way to its name.
#pragma once

#include <filesystem>
#include <functional>

namespace filigree {

// While one is alive, SIGINT, SIGTERM and SIGHUP remove what is there before they end the process,
// unless something else handles them. A second one ends it at once.
class TemporaryPath {
 public:
  // Names `target` with the process's id behind it, and makes nothing. Removes what an earlier
  // process with our id left there.
  explicit TemporaryPath(std::filesystem::path target);
  ~TemporaryPath();  // removes what is there unless it was published
  TemporaryPath(const TemporaryPath&) = delete;
  TemporaryPath& operator=(const TemporaryPath&) = delete;

  const std::filesystem::path& path() const { return path_; }
  // `rename` gives it its name; signals wait until that is done. Where it throws, what it threw.
  void publish(const std::function<void()>& rename);

 private:
  std::filesystem::path path_;
};

}  // namespace filigree
