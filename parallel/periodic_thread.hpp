// Private to this folder: a thread that looks after something now and then.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace filigree {

class PeriodicThread {
 public:
  // Calls `look` until it returns false or this is destroyed, which waits for a call under way: ten
  // times within `limit`, but every 10 ms at most and every second at least. `look` must not throw.
  PeriodicThread(std::chrono::milliseconds limit, std::function<bool()> look);
  ~PeriodicThread();
  PeriodicThread(const PeriodicThread&) = delete;
  PeriodicThread& operator=(const PeriodicThread&) = delete;

 private:
  void run();

  const std::chrono::milliseconds period_;
  const std::function<bool()> look_;
  std::mutex mutex_;
  std::condition_variable stopped_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace filigree
