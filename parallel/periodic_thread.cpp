#include "parallel/periodic_thread.hpp"

#include <algorithm>

namespace filigree {

using std::chrono::milliseconds;

PeriodicThread::PeriodicThread(milliseconds limit, std::function<bool()> look)
    : period_(std::clamp(limit / 10, milliseconds(10), milliseconds(1000))),
      look_(std::move(look)),
      thread_([this] { run(); }) {}

PeriodicThread::~PeriodicThread() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  stopped_.notify_all();
  thread_.join();
}

void PeriodicThread::run() {
  std::unique_lock lock(mutex_);
  while (!stopped_.wait_for(lock, period_, [&] { return stop_; })) {
    lock.unlock();
    const bool again = look_();
    lock.lock();
    if (!again) return;
  }
}

}  // namespace filigree
