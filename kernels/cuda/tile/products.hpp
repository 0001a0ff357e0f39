// Products of tiles by one warp: 16 rows of the left operand, sums in f32 registers. bf16 runs on
// tensor cores; f32 by fused multiply-add, since three products in tf32 would lose four bits of the
// f32 that this path exists for.
//
// Sums have the layout of mma.m16n8k16: lane l holds, of the 8 columns j, rows l/4 (elements 0, 1)
// and l/4 + 8 (elements 2, 3), columns 8 j + 2 (l % 4) and the next.
#pragma once

#include <type_traits>

#include "kernels/cuda/tile/shared_tile.hpp"

namespace filigree::tile {

template <int kColumns>
__device__ __forceinline__ void clear(float (&sums)[kColumns][4]) {
#pragma unroll
  for (int j = 0; j < kColumns; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[j][i] = 0.0f;
}

__device__ __forceinline__ std::uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return static_cast<std::uint32_t>(__bfloat16_as_ushort(pair.x)) |
         static_cast<std::uint32_t>(__bfloat16_as_ushort(pair.y)) << 16;
}

// sums += a[row0, row0 + 16) b^T
template <int kRows, int kColumns, int kWidth>
__device__ __forceinline__ void multiply_transposed(
    float (&sums)[kColumns / 8][4], const SharedTile<DeviceBFloat16, kRows, kWidth>& a, int row0,
    const SharedTile<DeviceBFloat16, kColumns, kWidth>& b) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll(kWidth > 64 ? 2 : 4)  // more would keep fragments of later steps in registers
  for (int step = 0; step < kWidth / 16; ++step) {
    std::uint32_t left[4];
    ldmatrix(left, a.chunk(row0 + lane % 16, 2 * step + lane / 16));
#pragma unroll
    for (int j = 0; j < kColumns / 8; j += 2) {
      std::uint32_t right[4];
      ldmatrix(right, b.chunk(8 * j + lane / 16 * 8 + lane % 8, 2 * step + lane / 8 % 2));
      const std::uint32_t first[2] = {right[0], right[1]}, second[2] = {right[2], right[3]};
      mma_bf16(sums[j], left, first, sums[j]);
      mma_bf16(sums[j + 1], left, second, sums[j + 1]);
    }
  }
}

template <int kRows, int kColumns, int kWidth>
__device__ __forceinline__ void multiply_transposed(float (&sums)[kColumns / 8][4],
                                                    const SharedTile<float, kRows, kWidth>& a,
                                                    int row0,
                                                    const SharedTile<float, kColumns, kWidth>& b) {
  using Four = Pack<float, 4>;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll 1
  for (int c = 0; c < kWidth / 4; ++c) {
    Four left[2];
#pragma unroll
    for (int i = 0; i < 2; ++i)
      left[i] = *reinterpret_cast<const Four*>(a.chunk(row0 + lane / 4 + 8 * i, c));
#pragma unroll
    for (int j = 0; j < kColumns / 8; ++j)
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        const Four right = *reinterpret_cast<const Four*>(b.chunk(8 * j + lane % 4 * 2 + n, c));
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          sums[j][n] += left[0].values[e] * right.values[e];
          sums[j][2 + n] += left[1].values[e] * right.values[e];
        }
      }
  }
}

// What a warp needs beside its registers to use sums as a left operand: f32 passes them through
// shared memory, bf16 packs them in place.
template <class T, int kDepth>
struct LeftOperand {
  static constexpr int kStride = kDepth + 4;
  float rows[std::is_same_v<T, float> ? 16 * kStride : 1];
};

// sums += p b, where p (16 x kDepth) are sums of this warp, rounded to the type of b.
template <int kDepth, int kWidth>
__device__ __forceinline__ void multiply(float (&sums)[kWidth / 8][4],
                                         const float (&p)[kDepth / 8][4],
                                         const SharedTile<DeviceBFloat16, kDepth, kWidth>& b,
                                         LeftOperand<DeviceBFloat16, kDepth>&) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int step = 0; step < kDepth / 16; ++step) {
    const float(&low)[4] = p[2 * step], (&high)[4] = p[2 * step + 1];
    const std::uint32_t left[4] = {pack_bf16(low[0], low[1]), pack_bf16(low[2], low[3]),
                                   pack_bf16(high[0], high[1]), pack_bf16(high[2], high[3])};
#pragma unroll
    for (int j = 0; j < kWidth / 8; j += 2) {
      std::uint32_t right[4];
      ldmatrix_trans(right, b.chunk(16 * step + lane % 16, j + lane / 16));
      const std::uint32_t first[2] = {right[0], right[1]}, second[2] = {right[2], right[3]};
      mma_bf16(sums[j], left, first, sums[j]);
      mma_bf16(sums[j + 1], left, second, sums[j + 1]);
    }
  }
}

template <int kDepth, int kWidth>
__device__ __forceinline__ void multiply(float (&sums)[kWidth / 8][4],
                                         const float (&p)[kDepth / 8][4],
                                         const SharedTile<float, kDepth, kWidth>& b,
                                         LeftOperand<float, kDepth>& left) {
  using Two = Pack<float, 2>;
  constexpr int kStride = LeftOperand<float, kDepth>::kStride;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int j = 0; j < kDepth / 8; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      left.rows[(g + i / 2 * 8) * kStride + 8 * j + 2 * t + i % 2] = p[j][i];
  __syncwarp();
#pragma unroll 1
  for (int k = 0; k < kDepth; ++k) {
    const float upper = left.rows[g * kStride + k], lower = left.rows[(g + 8) * kStride + k];
#pragma unroll
    for (int j = 0; j < kWidth / 8; ++j) {
      const Two right = *reinterpret_cast<const Two*>(&b.at(k, 8 * j + 2 * t));
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        sums[j][n] += upper * right.values[n];
        sums[j][2 + n] += lower * right.values[n];
      }
    }
  }
  __syncwarp();  // before the next product overwrites the operand
}

// Writes factor[i] * sums of row l/4 + 8 i to row_of(i), if that is not negative.
template <class T, int kTiles, class RowOf>
__device__ __forceinline__ void store_rows(const RowsOfHead<T>& to, const float (&sums)[kTiles][4],
                                           const float (&factor)[2], const RowOf& row_of) {
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = row_of(i);
    if (row < 0) continue;
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      const int column = 8 * j + 2 * t;
      T* const out = to.row(row) + column;
      const T first = from_float<T>(factor[i] * sums[j][2 * i]);
      const T second = from_float<T>(factor[i] * sums[j][2 * i + 1]);
      if (to.is_aligned && column < to.width) {
        *reinterpret_cast<Pack<T, 2>*>(out) = {{first, second}};
      } else {
        if (column < to.width) out[0] = first;
        if (column + 1 < to.width) out[1] = second;
      }
    }
  }
}

}  // namespace filigree::tile
