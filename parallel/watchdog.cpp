#include "parallel/watchdog.hpp"

namespace filigree {

Watchdog::Watchdog(std::string who, std::chrono::milliseconds limit, OnStall on_stall)
    : who_(std::move(who)),
      limit_(limit),
      on_stall_(std::move(on_stall)),
      thread_(limit, [this] { return look(); }) {}

Watchdog::Guard::Guard(Watchdog& watchdog, const CollectiveCall& call, const std::string& group)
    : watchdog_(watchdog) {
  const std::lock_guard lock(watchdog_.mutex_);
  watchdog_.operation_ = Operation{call, group, Clock::now()};
}

Watchdog::Guard::~Guard() {
  const std::lock_guard lock(watchdog_.mutex_);
  watchdog_.operation_.reset();
}

bool Watchdog::look() {
  std::unique_lock lock(mutex_);
  if (!operation_ || Clock::now() - operation_->start < limit_) return true;
  const Operation stuck = *operation_;
  lock.unlock();
  on_stall_(str(who_, " is stuck: ", stuck.call.operation, " #", stuck.call.sequence, " on ",
                stuck.group, " (", stuck.call.bytes, " bytes) has not returned for ",
                limit_.count(), " ms"));
  return false;
}

}  // namespace filigree
