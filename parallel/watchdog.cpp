#include "parallel/watchdog.hpp"

#include <algorithm>

namespace filigree {

using namespace std::chrono_literals;

Watchdog::Watchdog(std::string who, std::chrono::milliseconds limit, OnStall on_stall)
    : who_(std::move(who)),
      limit_(limit),
      on_stall_(std::move(on_stall)),
      thread_([this] { run(); }) {}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  stopped_.notify_all();
  thread_.join();
}

Watchdog::Guard::Guard(Watchdog& watchdog, const CollectiveCall& call, const std::string& group)
    : watchdog_(watchdog) {
  const std::lock_guard lock(watchdog_.mutex_);
  watchdog_.operation_ = Operation{call, group, Clock::now()};
}

Watchdog::Guard::~Guard() {
  const std::lock_guard lock(watchdog_.mutex_);
  watchdog_.operation_.reset();
}

void Watchdog::run() {
  const auto period =
      std::clamp(limit_ / 10, std::chrono::milliseconds(10ms), std::chrono::milliseconds(1s));
  std::unique_lock lock(mutex_);
  while (!stopped_.wait_for(lock, period, [&] { return stop_; })) {
    if (!operation_ || Clock::now() - operation_->start < limit_) continue;
    const Operation stuck = *operation_;
    lock.unlock();
    on_stall_(str(who_, " is stuck: ", stuck.call.operation, " #", stuck.call.sequence, " on ",
                  stuck.group, " (", stuck.call.bytes, " bytes) has not returned for ",
                  limit_.count(), " ms"));
    return;
  }
}

}  // namespace filigree
