#include "tests/harness/simt/engine/fibers.hpp"

#include <sys/mman.h>

#include <new>

#ifdef SIMT_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace simt {
namespace context = boost::context::detail;

StackPool::StackPool() {
  void* base = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (base == MAP_FAILED) throw std::bad_alloc();
  base_ = reinterpret_cast<std::uintptr_t>(base);
  for (int i = 0; i < kMaxThreads; ++i) {
    mprotect(reinterpret_cast<void*>(low(i) - kGuardBytes), kGuardBytes, PROT_NONE);
  }
}

void prepare(Fiber& fiber, const StackPool& pool, int i, void (*entry)(context::transfer_t)) {
  // Neighbouring stacks start at different cache sets: their distance is a power of two otherwise.
  const std::size_t used = kStackBytes - static_cast<std::size_t>(i % 32) * 128;
  fiber.stack_low = reinterpret_cast<const void*>(pool.low(i));
  fiber.stack_bytes = used;
  fiber.fake_stack = nullptr;
#ifdef SIMT_ADDRESS_SANITIZER
  __asan_unpoison_memory_region(fiber.stack_low, kStackBytes);
#endif
  fiber.context = context::make_fcontext(reinterpret_cast<void*>(pool.low(i) + used), used, entry);
}

void switch_to(Fiber& from, Fiber& to) {
#ifdef SIMT_ADDRESS_SANITIZER
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack_low, to.stack_bytes);
#endif
  const context::transfer_t back = context::jump_fcontext(to.context, &from);
#ifdef SIMT_ADDRESS_SANITIZER
  Fiber& other = *static_cast<Fiber*>(back.data);
  __sanitizer_finish_switch_fiber(from.fake_stack, &other.stack_low, &other.stack_bytes);
#endif
  static_cast<Fiber*>(back.data)->context = back.fctx;
}

void entered(context::transfer_t transfer, Fiber& self) {
  Fiber& other = *static_cast<Fiber*>(transfer.data);
#ifdef SIMT_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(self.fake_stack, &other.stack_low, &other.stack_bytes);
#endif
  other.context = transfer.fctx;
}

}  // namespace simt
