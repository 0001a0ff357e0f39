// Watchdog: a thread that notices when this rank is stuck inside an operation that should have
// timed out by itself.
#pragma once

#include <chrono>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

#include "parallel/communicator.hpp"
#include "parallel/periodic_thread.hpp"

namespace filigree {

class Watchdog {
 public:
  // Called once, on the watchdog's thread, with one sentence that says what is stuck.
  using OnStall = std::function<void(const std::string& sentence)>;

  // `who` opens the sentence: "rank 3 on node17".
  Watchdog(std::string who, std::chrono::milliseconds limit, OnStall on_stall);
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // Says what the rank is doing until it goes out of scope. One at a time.
  class Guard {
   public:
    Guard(Watchdog& watchdog, const CollectiveCall& call, const std::string& group);
    ~Guard();
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

   private:
    Watchdog& watchdog_;
  };

 private:
  using Clock = std::chrono::steady_clock;
  struct Operation {
    CollectiveCall call;
    std::string group;
    Clock::time_point start;
  };
  bool look();  // false once it has spoken

  const std::string who_;
  const std::chrono::milliseconds limit_;
  const OnStall on_stall_;
  std::mutex mutex_;
  std::optional<Operation> operation_;
  PeriodicThread thread_;  // last: it ends before what it looks at
};

}  // namespace filigree
