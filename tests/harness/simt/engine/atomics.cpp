// Atomic operations: one thread runs at a time, so that the plain operation is atomic; what is left
// is to tell the checks, and to let others run now and then, as loops on atomics expect.
#include <simt/atomics.hpp>

#include <algorithm>
#include <chrono>

#include "tests/harness/simt/engine/machine.hpp"

namespace {

template <typename T, typename Update>
T atomically(T* address, const char* name, Update update) {
  simt::Block& block = simt::this_block(name);
  block.maybe_yield();
  simt::MemoryCheck& check = simt::Machine::instance().check();
  if (reinterpret_cast<std::uintptr_t>(address) % sizeof(T) != 0) {
    block.fail(std::string(name) + " at a misaligned address, " + check.describe(address));
  }
  check.access(address, sizeof(T), simt::Access::atomic, __builtin_return_address(0));
  if (!check.in_shared(address)) check.device_atomic();
  const T old = *address;
  *address = update(old);
  return old;
}

}  // namespace

#define SIMT_ATOMIC(name, type, result)                                          \
  type name(type* address, type value) {                                         \
    return atomically(address, #name, [&](type old) -> type { return result; }); \
  }
#define SIMT_ATOMIC_INTEGERS(name, result) \
  SIMT_ATOMIC(name, int, result)           \
  SIMT_ATOMIC(name, unsigned int, result)  \
  SIMT_ATOMIC(name, unsigned long long, result)

SIMT_ATOMIC(atomicAdd, int,
            static_cast<int>(static_cast<unsigned>(old) + static_cast<unsigned>(value)))
SIMT_ATOMIC(atomicAdd, unsigned int, old + value)
SIMT_ATOMIC(atomicAdd, unsigned long long, old + value)
SIMT_ATOMIC(atomicAdd, float, old + value)
SIMT_ATOMIC(atomicAdd, double, old + value)
SIMT_ATOMIC(atomicSub, int,
            static_cast<int>(static_cast<unsigned>(old) - static_cast<unsigned>(value)))
SIMT_ATOMIC(atomicSub, unsigned int, old - value)
SIMT_ATOMIC_INTEGERS(atomicMax, std::max(old, value))
SIMT_ATOMIC_INTEGERS(atomicMin, std::min(old, value))
SIMT_ATOMIC_INTEGERS(atomicAnd, old& value)
SIMT_ATOMIC_INTEGERS(atomicOr, old | value)
SIMT_ATOMIC_INTEGERS(atomicXor, old ^ value)
SIMT_ATOMIC_INTEGERS(atomicExch, (static_cast<void>(old), value))
SIMT_ATOMIC(atomicExch, float, (static_cast<void>(old), value))
SIMT_ATOMIC(atomicInc, unsigned int, old >= value ? 0 : old + 1)

#define SIMT_COMPARE_AND_SWAP(type)                                                       \
  type atomicCAS(type* address, type expected, type desired) {                            \
    return atomically(address, "atomicCAS",                                               \
                      [&](type old) -> type { return old == expected ? desired : old; }); \
  }
SIMT_COMPARE_AND_SWAP(int)
SIMT_COMPARE_AND_SWAP(unsigned int)
SIMT_COMPARE_AND_SWAP(unsigned long long)

void __threadfence() {
  simt::this_block("__threadfence");
  simt::Machine::instance().check().device_fence();
}
void __threadfence_system() { __threadfence(); }
void __threadfence_block() { simt::this_block("__threadfence_block"); }

long long clock64() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void __nanosleep(unsigned int) { simt::this_block("__nanosleep").yield(); }
