// Stacks and switches for CUDA threads, on Boost.Context's lowest layer: a thread of a block that
// has failed is abandoned without unwinding, which the higher layers do not allow.
#pragma once

#include <boost/context/detail/fcontext.hpp>
#include <cstddef>
#include <cstdint>

#if defined(__SANITIZE_ADDRESS__)
#define SIMT_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIMT_ADDRESS_SANITIZER 1
#endif
#endif

namespace simt {

#ifdef SIMT_ADDRESS_SANITIZER
inline constexpr std::size_t kStackBytes = 256 * 1024;
#else
inline constexpr std::size_t kStackBytes = 64 * 1024;
#endif
inline constexpr std::size_t kGuardBytes = 4096;
inline constexpr int kMaxThreads = 1024;  // of a block

// One stack for each thread of a block, each below a guard page.
class StackPool {
 public:
  StackPool();
  StackPool(const StackPool&) = delete;

  // Lowest usable byte of the stack of thread `i`.
  std::uintptr_t low(int i) const { return base_ + i * (kStackBytes + kGuardBytes) + kGuardBytes; }
  bool holds(std::uintptr_t address) const { return address - base_ < kBytes; }
  int owner(std::uintptr_t address) const {
    return static_cast<int>((address - base_) / (kStackBytes + kGuardBytes));
  }

 private:
  static constexpr std::size_t kBytes = kMaxThreads * (kStackBytes + kGuardBytes);
  std::uintptr_t base_;
};

// One side of a switch: where to resume it and, for AddressSanitizer, which stack it runs on.
struct Fiber {
  boost::context::detail::fcontext_t context = nullptr;
  const void* stack_low = nullptr;
  std::size_t stack_bytes = 0;
  void* fake_stack = nullptr;
};

// Prepares `fiber` to start at `entry`, which must call entered() first and never return.
void prepare(Fiber& fiber, const StackPool& pool, int i,
             void (*entry)(boost::context::detail::transfer_t));
// Leaves `from`, runs `to`; returns when something switches back to `from`.
void switch_to(Fiber& from, Fiber& to);
// First act of an entry: remembers where it was entered from.
void entered(boost::context::detail::transfer_t transfer, Fiber& self);

}  // namespace simt
