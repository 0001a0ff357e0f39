// Runs one block of CUDA threads as fibers, and lets them meet at barriers and warp collectives.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include <simt/launch.hpp>

#include "tests/harness/simt/engine/async.hpp"
#include "tests/harness/simt/engine/fibers.hpp"
#include "tests/harness/simt/engine/order.hpp"
#include "tests/harness/simt/engine/random.hpp"
#include "tests/harness/simt/engine/symbols.hpp"

namespace simt {

// A copy to shared memory that was started and has not landed.
struct AsyncCopy {
  std::uintptr_t destination, source;
  std::uint32_t bytes, source_bytes;  // the rest is filled with zeros
  std::uint64_t group;
};

enum class Wait : std::uint8_t { ready, block_barrier, named_barrier, mbarrier, warp, exited };

// Computes a warp collective's results once all lanes of the mask have come; `requests[lane]` is
// what the lane passed.
using Complete = void (*)(void* const requests[32], std::uint32_t mask);

struct Thread {
  Fiber fiber;
  int index = 0;
  uint3 position{};
  Wait wait = Wait::ready;
  const char* waits_at = "";
  std::uint32_t mask = 0;
  void* request = nullptr;
  std::vector<AsyncCopy> copies;
  std::uint64_t copy_group = 0;  // the group that the next copy belongs to
  // Sums that wgmma has in flight, and the group that ends it.
  struct Accumulator {
    std::uintptr_t begin;
    std::size_t bytes;
    std::uint64_t group;
  };
  std::vector<Accumulator> accumulators;
  std::uint64_t proxy_fence = 0;  // clock of the last fence.proxy.async
  std::uint32_t barrier = 0;      // that it waits for: shared address, or number

  int lane() const { return index & 31; }
  int warp() const { return index >> 5; }
};

struct LaunchShape {
  dim3 grid, block;
  std::size_t shared_bytes = 0;
};

class Block {
 public:
  Block(Random& random, std::uint64_t& clock) : random_(random), clock_(clock) {}

  // Chooses the block to run next.
  void place(const detail::Kernel& kernel, const LaunchShape& shape, uint3 position);
  // Runs it to its end. Throws Fault.
  void run();

  // The rest is called by the running thread.
  int block_barrier(const char* name, bool predicate);
  void warp_collective(const char* name, std::uint32_t mask, void* request, Complete complete);
  // Lets others run; a fault when the block does nothing but yield.
  void yield();
  void maybe_yield() {
    if (random_.below(8) == 0) yield();
  }
  // Waits until wake() is called for this thread.
  void wait_for(Wait wait, const char* what);
  void wake(int thread);
  [[noreturn]] void fail(const std::string& what);

  const detail::Kernel& kernel() const { return *kernel_; }
  const LaunchShape& shape() const { return shape_; }
  uint3 position() const { return position_; }
  int threads() const { return count_; }
  Thread& thread(int i) { return threads_[i]; }
  std::uint32_t lanes_present(int warp) const;
  BlockOrder& order() { return order_; }
  AsyncState& async() { return async_; }
  // Takes a copy that lands when the scheduler says so, by the hand of no thread.
  void start(Transfer transfer) { async_.transfers.push_back(std::move(transfer)); }
  std::uint64_t tick() { return clock_++; }
  Random& random() { return random_; }
  const StackPool& stacks() const { return stacks_; }
  const AddressRange& thread_locals() const { return thread_locals_; }
  std::string describe_thread(int thread) const;

 private:
  struct Group {  // lanes that have come to a collective with the same mask
    std::uint32_t mask, arrived;
    Complete complete;
    const char* name;
  };
  static void entry(boost::context::detail::transfer_t transfer);
  void start();
  void schedule();
  void land(std::size_t transfer);
  void suspend(Thread& thread);
  void finish(Thread& thread);
  void check_exit(const Thread& thread);
  std::string describe_waits() const;

  Random& random_;
  std::uint64_t& clock_;
  StackPool stacks_;
  Fiber scheduler_;
  AddressRange thread_locals_;
  std::vector<Thread> threads_ = std::vector<Thread>(kMaxThreads);
  std::vector<std::uint16_t> ready_;
  std::array<std::vector<Group>, kMaxThreads / 32> groups_;
  std::array<std::uint32_t, kMaxThreads / 32> lanes_running_{};
  BlockOrder order_;
  AsyncState async_;
  Thread agent_;  // whose accesses those of landing copies are

  const detail::Kernel* kernel_ = nullptr;
  LaunchShape shape_;
  uint3 position_{};
  int count_ = 0, live_ = 0;
  int at_barrier_ = 0, true_predicates_ = 0, barrier_result_ = 0;
  const char* barrier_name_ = "";
  std::uint64_t idle_yields_ = 0;
  std::string fault_;
};

// The thread of a block that runs on this host thread, or null: set only while device code runs.
extern thread_local Thread* running_thread;
extern thread_local Block* running_block;
// Faults unless device code runs; `what` names the caller.
Block& this_block(const char* what);

}  // namespace simt
