// Where a CUDA thread is, and how it meets others: barriers, shuffles, votes, reductions.
// A collective whose mask does not equal the threads that arrive is a fault.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include <simt/vector_types.hpp>

namespace simt::detail {

uint3 thread_index();
uint3 block_index();
dim3 block_extent();
dim3 grid_extent();

enum class Shuffle { index, up, down, xor_ };
enum class Reduction { add, min_signed, max_signed, min_unsigned, max_unsigned, and_, or_, xor_ };

// `bits` of the source lane. `parameter` is the lane, distance or mask; `width` divides 32.
std::uint64_t shuffle(Shuffle kind, unsigned mask, std::uint64_t bits, unsigned parameter,
                      int width);
unsigned ballot(const char* name, unsigned mask, bool predicate);
unsigned match_any(unsigned mask, std::uint64_t bits);
std::uint32_t reduce(Reduction kind, unsigned mask, std::uint32_t value);
void warp_barrier(unsigned mask);
unsigned active_mask();
// How many threads of the block passed a true predicate.
int block_barrier(const char* name, bool predicate);

template <typename T>
T shuffle_value(Shuffle kind, unsigned mask, T value, unsigned parameter, int width) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8,
                "shuffles take types of up to 8 bytes");
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = shuffle(kind, mask, bits, parameter, width);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace simt::detail

#define threadIdx (::simt::detail::thread_index())
#define blockIdx (::simt::detail::block_index())
#define blockDim (::simt::detail::block_extent())
#define gridDim (::simt::detail::grid_extent())
inline constexpr int warpSize = 32;

// Stops the kernel: a fault.
[[noreturn]] void __trap();

inline void __syncthreads() { simt::detail::block_barrier("__syncthreads", false); }
inline int __syncthreads_count(int predicate) {
  return simt::detail::block_barrier("__syncthreads_count", predicate != 0);
}
inline int __syncthreads_or(int predicate) {
  return simt::detail::block_barrier("__syncthreads_or", predicate != 0) != 0;
}
inline int __syncthreads_and(int predicate) {
  return simt::detail::block_barrier("__syncthreads_and", predicate == 0) == 0;
}
inline void __syncwarp(unsigned mask = 0xffffffffu) { simt::detail::warp_barrier(mask); }
inline unsigned __activemask() { return simt::detail::active_mask(); }

template <typename T>
inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32) {
  return simt::detail::shuffle_value(simt::detail::Shuffle::index, mask, value,
                                     static_cast<unsigned>(lane), width);
}
template <typename T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  return simt::detail::shuffle_value(simt::detail::Shuffle::up, mask, value, delta, width);
}
template <typename T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  return simt::detail::shuffle_value(simt::detail::Shuffle::down, mask, value, delta, width);
}
template <typename T>
inline T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32) {
  return simt::detail::shuffle_value(simt::detail::Shuffle::xor_, mask, value,
                                     static_cast<unsigned>(lane_mask), width);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return simt::detail::ballot("__ballot_sync", mask, predicate != 0);
}
inline int __any_sync(unsigned mask, int predicate) {
  return simt::detail::ballot("__any_sync", mask, predicate != 0) != 0;
}
inline int __all_sync(unsigned mask, int predicate) {
  return simt::detail::ballot("__all_sync", mask, predicate == 0) == 0;
}
template <typename T>
inline unsigned __match_any_sync(unsigned mask, T value) {
  static_assert(sizeof(T) <= 8);
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return simt::detail::match_any(mask, bits);
}

inline unsigned __reduce_add_sync(unsigned mask, unsigned value) {
  return simt::detail::reduce(simt::detail::Reduction::add, mask, value);
}
inline int __reduce_add_sync(unsigned mask, int value) {
  return static_cast<int>(__reduce_add_sync(mask, static_cast<unsigned>(value)));
}
inline unsigned __reduce_min_sync(unsigned mask, unsigned value) {
  return simt::detail::reduce(simt::detail::Reduction::min_unsigned, mask, value);
}
inline int __reduce_min_sync(unsigned mask, int value) {
  return static_cast<int>(simt::detail::reduce(simt::detail::Reduction::min_signed, mask,
                                               static_cast<unsigned>(value)));
}
inline unsigned __reduce_max_sync(unsigned mask, unsigned value) {
  return simt::detail::reduce(simt::detail::Reduction::max_unsigned, mask, value);
}
inline int __reduce_max_sync(unsigned mask, int value) {
  return static_cast<int>(simt::detail::reduce(simt::detail::Reduction::max_signed, mask,
                                               static_cast<unsigned>(value)));
}
inline unsigned __reduce_and_sync(unsigned mask, unsigned value) {
  return simt::detail::reduce(simt::detail::Reduction::and_, mask, value);
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value) {
  return simt::detail::reduce(simt::detail::Reduction::or_, mask, value);
}
inline unsigned __reduce_xor_sync(unsigned mask, unsigned value) {
  return simt::detail::reduce(simt::detail::Reduction::xor_, mask, value);
}
