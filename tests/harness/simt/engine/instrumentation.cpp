// The callbacks that -fsanitize=thread plants before every load and store. Emulated sources are
// compiled with it, but this file takes the place of ThreadSanitizer's own runtime.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "tests/harness/simt/engine/block.hpp"
#include "tests/harness/simt/engine/machine.hpp"
#include "tests/harness/simt/engine/wgmma.hpp"

namespace {

using simt::Access;

inline void seen(const void* address, std::size_t bytes, Access access, const void* caller) {
  const simt::Thread* thread = simt::running_thread;
  if (thread == nullptr) return;  // host code
  const auto low = reinterpret_cast<std::uintptr_t>(thread->fiber.stack_low);
  if (reinterpret_cast<std::uintptr_t>(address) - low < simt::kStackBytes) {
    if (!thread->accumulators.empty()) simt::check_registers(address, bytes, access);
    return;
  }
  simt::Machine::instance().check().access(address, bytes, access, caller);
}

// As above for calls that the emulator itself makes too: only emulated memory counts.
inline void seen_in_call(const void* address, std::size_t bytes, Access access,
                         const void* caller) {
  if (simt::running_thread == nullptr) return;
  simt::Machine& machine = simt::Machine::instance();
  if (machine.memory().holds(reinterpret_cast<std::uintptr_t>(address)) ||
      machine.check().in_shared(address)) {
    seen(address, bytes, access, caller);
  }
}

}  // namespace

#define SIMT_CALLER __builtin_return_address(0)
#define SIMT_ACCESS_CALLBACKS(bytes)                                                        \
  void __tsan_read##bytes(void* a) { seen(a, bytes, Access::read, SIMT_CALLER); }           \
  void __tsan_write##bytes(void* a) { seen(a, bytes, Access::write, SIMT_CALLER); }         \
  void __tsan_unaligned_read##bytes(void* a) { seen(a, bytes, Access::read, SIMT_CALLER); } \
  void __tsan_unaligned_write##bytes(void* a) { seen(a, bytes, Access::write, SIMT_CALLER); }

// Host code in the same source may use std::atomic and shared_ptr; device code has CUDA's atomics.
#define SIMT_ATOMIC_CALLBACKS(bits, type)                                                   \
  type __tsan_atomic##bits##_load(const type* a, int) {                                     \
    return __atomic_load_n(a, __ATOMIC_SEQ_CST);                                            \
  }                                                                                         \
  void __tsan_atomic##bits##_store(type* a, type v, int) {                                  \
    __atomic_store_n(a, v, __ATOMIC_SEQ_CST);                                               \
  }                                                                                         \
  type __tsan_atomic##bits##_exchange(type* a, type v, int) {                               \
    return __atomic_exchange_n(a, v, __ATOMIC_SEQ_CST);                                     \
  }                                                                                         \
  type __tsan_atomic##bits##_fetch_add(type* a, type v, int) {                              \
    return __atomic_fetch_add(a, v, __ATOMIC_SEQ_CST);                                      \
  }                                                                                         \
  type __tsan_atomic##bits##_fetch_sub(type* a, type v, int) {                              \
    return __atomic_fetch_sub(a, v, __ATOMIC_SEQ_CST);                                      \
  }                                                                                         \
  type __tsan_atomic##bits##_fetch_and(type* a, type v, int) {                              \
    return __atomic_fetch_and(a, v, __ATOMIC_SEQ_CST);                                      \
  }                                                                                         \
  type __tsan_atomic##bits##_fetch_or(type* a, type v, int) {                               \
    return __atomic_fetch_or(a, v, __ATOMIC_SEQ_CST);                                       \
  }                                                                                         \
  type __tsan_atomic##bits##_fetch_xor(type* a, type v, int) {                              \
    return __atomic_fetch_xor(a, v, __ATOMIC_SEQ_CST);                                      \
  }                                                                                         \
  int __tsan_atomic##bits##_compare_exchange_strong(type* a, type* e, type d, int, int) {   \
    return __atomic_compare_exchange_n(a, e, d, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }                                                                                         \
  int __tsan_atomic##bits##_compare_exchange_weak(type* a, type* e, type d, int, int) {     \
    return __atomic_compare_exchange_n(a, e, d, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }                                                                                         \
  type __tsan_atomic##bits##_compare_exchange_val(type* a, type e, type d, int, int) {      \
    __atomic_compare_exchange_n(a, &e, d, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);       \
    return e;                                                                               \
  }

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_read(void**) {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_atomic_signal_fence(int) {}

SIMT_ACCESS_CALLBACKS(1)
SIMT_ACCESS_CALLBACKS(2)
SIMT_ACCESS_CALLBACKS(4)
SIMT_ACCESS_CALLBACKS(8)
SIMT_ACCESS_CALLBACKS(16)
void __tsan_read_range(void* a, std::size_t bytes) { seen(a, bytes, Access::read, SIMT_CALLER); }
void __tsan_write_range(void* a, std::size_t bytes) { seen(a, bytes, Access::write, SIMT_CALLER); }

SIMT_ATOMIC_CALLBACKS(8, std::uint8_t)
SIMT_ATOMIC_CALLBACKS(16, std::uint16_t)
SIMT_ATOMIC_CALLBACKS(32, std::uint32_t)
SIMT_ATOMIC_CALLBACKS(64, std::uint64_t)

// The linker sends every memcpy of the program here (--wrap): compilers turn assignments of structs
// and loops in device code into calls of it, which nothing else would see.
void* __real_memcpy(void* to, const void* from, std::size_t bytes);
void* __real_memmove(void* to, const void* from, std::size_t bytes);
void* __real_memset(void* to, int value, std::size_t bytes);

void* __wrap_memcpy(void* to, const void* from, std::size_t bytes) {
  seen_in_call(from, bytes, Access::read, SIMT_CALLER);
  seen_in_call(to, bytes, Access::write, SIMT_CALLER);
  return __real_memcpy(to, from, bytes);
}
void* __wrap_memmove(void* to, const void* from, std::size_t bytes) {
  seen_in_call(from, bytes, Access::read, SIMT_CALLER);
  seen_in_call(to, bytes, Access::write, SIMT_CALLER);
  return __real_memmove(to, from, bytes);
}
void* __wrap_memset(void* to, int value, std::size_t bytes) {
  seen_in_call(to, bytes, Access::write, SIMT_CALLER);
  return __real_memset(to, value, bytes);
}

}  // extern "C"
