// What device code of several families uses: storage types, wide loads, reductions over threads.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <utility>

#include "runtime/core/tensor.hpp"

namespace filigree {

using DeviceBFloat16 = __nv_bfloat16;

// Stored value -> f32, exact; f32 -> stored value, to nearest.
__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(DeviceBFloat16 value) { return __bfloat162float(value); }
template <class T>
__device__ __forceinline__ T from_float(float value);
template <>
__device__ __forceinline__ float from_float<float>(float value) {
  return value;
}
template <>
__device__ __forceinline__ DeviceBFloat16 from_float<DeviceBFloat16>(float value) {
  return __float2bfloat16(value);
}

// kWidth elements that one instruction loads or stores.
template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth) Pack {
  T values[kWidth];
};
template <class T>
inline constexpr int kWidest = 16 / sizeof(T);

constexpr int kWarp = 32;
constexpr unsigned kWholeWarp = 0xffffffffu;

// The result is in every lane; the order of the sum is fixed.
template <class T>
__device__ __forceinline__ T warp_sum(T value) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2)
    value += __shfl_xor_sync(kWholeWarp, value, distance);
  return value;
}

// Over a block of whole warps, at most 32 of them; the result is in every thread. Every thread of
// the block must come here. `scratch`: 32 elements of shared memory, free again on return.
template <class T>
__device__ __forceinline__ T block_sum(T value, T* scratch) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int warps = blockDim.x / kWarp;
  value = warp_sum(value);
  if (lane == 0) scratch[warp] = value;
  __syncthreads();
  value = warp_sum(lane < warps ? scratch[lane] : T(0));
  __syncthreads();
  return value;
}

// As warp_sum. A NaN loses against every number.
__device__ __forceinline__ float warp_max(float value) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2)
    value = fmaxf(value, __shfl_xor_sync(kWholeWarp, value, distance));
  return value;
}

// As block_sum. A NaN loses against every number.
__device__ __forceinline__ float block_max(float value, float* scratch) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int warps = blockDim.x / kWarp;
  value = warp_max(value);
  if (lane == 0) scratch[warp] = value;
  __syncthreads();
  value = warp_max(scratch[lane < warps ? lane : 0]);
  __syncthreads();
  return value;
}

// ---- on the host ----

// Calls visitor(T{}) for the device's storage type behind f32 or bf16.
template <class Visitor>
void visit_device(DType dtype, Visitor&& visitor) {
  switch (dtype) {
    case DType::f32:
      return std::forward<Visitor>(visitor)(float{});
    case DType::bf16:
      return std::forward<Visitor>(visitor)(DeviceBFloat16{});
    default:
      FILIGREE_CHECK(false, "CUDA kernels do not compute in ", name_of(dtype));
  }
}

// The elements of a tensor of the device as its code sees them; null when it is undefined.
template <class T>
T* device_data(const Tensor& tensor) {
  if (!tensor.defined()) return nullptr;
  FILIGREE_CHECK_EQ(size_of(tensor.dtype()), static_cast<std::int64_t>(sizeof(T)), "bytes");
  FILIGREE_CHECK(tensor.device().kind == DeviceKind::cuda, "a tensor ", tensor.shape(),
                 " of a kernel is in host memory");
  return static_cast<T*>(tensor.raw());
}

inline bool is_aligned(const void* pointer, std::size_t bytes) {
  return reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0;
}

}  // namespace filigree
