// Atomic operations and fences on global and shared memory. Defined out of line, in code that the
// memory checks do not instrument: they tell the checks themselves that the access is atomic.
#pragma once

#include <simt/vector_types.hpp>

#define SIMT_ATOMIC(name, type) type name(type* address, type value);
#define SIMT_ATOMIC_INTEGERS(name) \
  SIMT_ATOMIC(name, int)           \
  SIMT_ATOMIC(name, unsigned int)  \
  SIMT_ATOMIC(name, unsigned long long)

SIMT_ATOMIC_INTEGERS(atomicAdd)
SIMT_ATOMIC(atomicAdd, float)
SIMT_ATOMIC(atomicAdd, double)
SIMT_ATOMIC(atomicSub, int)
SIMT_ATOMIC(atomicSub, unsigned int)
SIMT_ATOMIC_INTEGERS(atomicMax)
SIMT_ATOMIC_INTEGERS(atomicMin)
SIMT_ATOMIC_INTEGERS(atomicAnd)
SIMT_ATOMIC_INTEGERS(atomicOr)
SIMT_ATOMIC_INTEGERS(atomicXor)
SIMT_ATOMIC_INTEGERS(atomicExch)
SIMT_ATOMIC(atomicExch, float)
SIMT_ATOMIC(atomicInc, unsigned int)
#undef SIMT_ATOMIC_INTEGERS
#undef SIMT_ATOMIC
int atomicCAS(int* address, int expected, int desired);
unsigned int atomicCAS(unsigned int* address, unsigned int expected, unsigned int desired);
unsigned long long atomicCAS(unsigned long long* address, unsigned long long expected,
                             unsigned long long desired);

void __threadfence();
void __threadfence_block();
void __threadfence_system();

// Loads through the read-only path and with cache hints: plain, checked loads.
template <typename T>
inline T __ldg(const T* address) {
  return *address;
}
template <typename T>
inline T __ldcs(const T* address) {
  return *address;
}
template <typename T>
inline T __ldcg(const T* address) {
  return *address;
}
template <typename T>
inline void __stcs(T* address, T value) {
  *address = value;
}
template <typename T>
inline void __stcg(T* address, T value) {
  *address = value;
}

// Nanoseconds of the host's clock: only differences mean something.
long long clock64();
void __nanosleep(unsigned int nanoseconds);
