// Shared by the functions of the emulated CUDA runtime.
#pragma once

#include <mutex>

#include <simt/runtime_api.hpp>

#include "tests/harness/simt/engine/host_guard.hpp"
#include "tests/harness/simt/engine/machine.hpp"

namespace simt {

// Remembers an error for cudaGetLastError and passes it on.
cudaError_t result(cudaError_t error);

// A thread that only asks how far things are (a watchdog) orders nothing by what it has seen, and
// leaves faults to those that work.
enum class Caller : std::uint8_t { works, asks };

// Entry of a call: the lock, and a stack for the guard. Throws a fault that waits for this device.
class Call {
 public:
  explicit Call(Caller caller = Caller::works)
      : machine(Machine::instance()), lock(machine.lock()), device(current_device) {
    guard_this_thread();
    if (caller == Caller::works) this_thread_works = true;
  }
  // What a call that needs a working device answers first.
  bool usable() { return machine.usable(device); }

  Machine& machine;
  std::unique_lock<std::mutex> lock;
  int device;
};

}  // namespace simt
