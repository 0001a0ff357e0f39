// A tile of a matrix product for a block of CUDA threads: plain f32 multiply-adds on operands in
// shared memory, which the gate's ops share. A multiply-add needs half a load from shared memory,
// so this reaches at most half of the f32 rate and none of the tensor cores'; the gate's products
// are a few percent of attention's.
#pragma once

#include "kernels/cuda/device.hpp"

namespace filigree {

constexpr int kProductThreads = 256;
constexpr int kProductStep = 16;  // inner elements in shared memory at a time
constexpr int kMicro = 4;         // a thread has 4 x 4 elements of the tile

// kRows x kCols elements, 4096 together. Thread t has the rows row() + i and the columns col() + j.
template <int kRows, int kCols>
struct ProductTile {
  static_assert(kRows * kCols == kProductThreads * kMicro * kMicro);
  static constexpr int kColThreads = kCols / kMicro;

  struct alignas(16) Shared {
    float left[kProductStep][kRows + kMicro], right[kProductStep][kCols + kMicro];
  };

  float sum[kMicro][kMicro] = {};

  __device__ static int row() { return static_cast<int>(threadIdx.x) / kColThreads * kMicro; }
  __device__ static int col() { return static_cast<int>(threadIdx.x) % kColThreads * kMicro; }

  // sum[i][j] += sum over k in [begin, end), ascending, of left(row, k) * right(k, col). Both are
  // asked for every row and column of the tile, so they give 0 outside of their matrix.
  // Neighbouring threads ask for neighbouring k where kLeftInner or kRightInner, else for
  // neighbouring rows or columns: what lies side by side in memory. Every thread of the block must
  // come here.
  template <bool kLeftInner, bool kRightInner, class Left, class Right>
  __device__ void add(Shared& shared, std::int64_t begin, std::int64_t end, const Left& left,
                      const Right& right) {
    for (std::int64_t k0 = begin; k0 < end; k0 += kProductStep) {
      for (int i = threadIdx.x; i < kRows * kProductStep; i += kProductThreads) {
        const int k = kLeftInner ? i % kProductStep : i / kRows;
        const int r = kLeftInner ? i / kProductStep : i % kRows;
        shared.left[k][r] = k0 + k < end ? left(r, k0 + k) : 0.0f;
      }
      for (int i = threadIdx.x; i < kCols * kProductStep; i += kProductThreads) {
        const int k = kRightInner ? i % kProductStep : i / kCols;
        const int c = kRightInner ? i / kProductStep : i % kCols;
        shared.right[k][c] = k0 + k < end ? right(k0 + k, c) : 0.0f;
      }
      __syncthreads();
      const int steps = end - k0 < kProductStep ? static_cast<int>(end - k0) : kProductStep;
      for (int k = 0; k < steps; ++k) multiply(shared, k);
      __syncthreads();
    }
  }

  // visit(row, col, sum) for the thread's elements.
  template <class Visit>
  __device__ void for_each(const Visit& visit) const {
#pragma unroll
    for (int i = 0; i < kMicro; ++i)
#pragma unroll
      for (int j = 0; j < kMicro; ++j) visit(row() + i, col() + j, sum[i][j]);
  }

 private:
  __device__ __forceinline__ void multiply(const Shared& shared, int k) {
    const float4 a = *reinterpret_cast<const float4*>(&shared.left[k][row()]);
    const float4 b = *reinterpret_cast<const float4*>(&shared.right[k][col()]);
    const float left[kMicro] = {a.x, a.y, a.z, a.w}, right[kMicro] = {b.x, b.y, b.z, b.w};
#pragma unroll
    for (int i = 0; i < kMicro; ++i)
#pragma unroll
      for (int j = 0; j < kMicro; ++j) sum[i][j] += left[i] * right[j];
  }
};

// Calls visitor(ProductTile{}) with the tile that wastes least on so many columns.
template <class Visitor>
void visit_tile(std::int64_t columns, Visitor&& visitor) {
  if (columns <= 16)
    visitor(ProductTile<256, 16>{});
  else if (columns <= 32)
    visitor(ProductTile<128, 32>{});
  else
    visitor(ProductTile<64, 64>{});
}

}  // namespace filigree
