// Rows of a head in shared memory as boxes bring them and wgmma reads them, and the products of a
// warpgroup on them.
#pragma once

#include "kernels/cuda/tile/hopper_instructions.hpp"
#include "kernels/cuda/tile/products.hpp"

namespace filigree::tile {

constexpr int kPanel = 64;  // columns of a row that are 128 bytes: what one box takes

// kRows x kWidth elements in panels of 64 columns, one after the other. The 16-byte chunks of a
// row of a panel are permuted by the row: chunk c of row r lies at c ^ r % 8
// (CU_TENSOR_MAP_SWIZZLE_128B).
template <int kRows, int kWidth>
struct SwizzledTile {
  static_assert(kRows % 8 == 0 && kWidth % kPanel == 0);
  static constexpr int kPanels = kWidth / kPanel;
  static constexpr int kBytes = kRows * kWidth * 2;

  alignas(1024) DeviceBFloat16 elements[kRows * kWidth];

  // Where the box of a panel goes whose first row is `row`, a multiple of 8.
  __device__ DeviceBFloat16* box(int row, int panel) {
    return elements + (panel * kRows + row) * kPanel;
  }
};

// PTX ISA, "Matrix Descriptor Format" of wgmma; offsets in bytes. 128-byte swizzle.
__device__ inline std::uint64_t matrix_descriptor(std::uint32_t address, int leading, int stride) {
  const auto encoded = [](std::uint32_t bytes) {
    return static_cast<std::uint64_t>((bytes & 0x3ffff) >> 4);
  };
  return encoded(address) | encoded(static_cast<std::uint32_t>(leading)) << 16 |
         encoded(static_cast<std::uint32_t>(stride)) << 32 | std::uint64_t{1} << 62;
}

// Rows from row0 on, 16 columns at 16 * step: an operand that lies along the depth. Eight rows are
// an atom of 1024 bytes.
template <int kRows, int kWidth>
__device__ __forceinline__ std::uint64_t along_depth(const SwizzledTile<kRows, kWidth>& tile,
                                                     int row0, int step) {
  const std::uint32_t panel = shared_address(tile.elements) + step / 4 * kRows * 128;
  return matrix_descriptor(panel + row0 * 128 + step % 4 * 32, 16, 1024);
}

// 16 rows at 16 * step, all columns: an operand whose depth is the rows. Panels lie `leading`
// apart.
template <int kRows, int kWidth>
__device__ __forceinline__ std::uint64_t across_depth(const SwizzledTile<kRows, kWidth>& tile,
                                                      int step) {
  return matrix_descriptor(shared_address(tile.elements) + step * 16 * 128, kRows * 128, 1024);
}

// Starts sums = a[row0, row0 + 64) b^T. The caller fences, commits and waits.
template <int kRows, int kColumns, int kWidth>
__device__ __forceinline__ void start_multiply_transposed(float (&sums)[kColumns / 8][4],
                                                          const SwizzledTile<kRows, kWidth>& a,
                                                          int row0,
                                                          const SwizzledTile<kColumns, kWidth>& b) {
#pragma unroll
  for (int step = 0; step < kWidth / 16; ++step)
    wgmma<false>(sums, along_depth(a, row0, step), along_depth(b, 0, step), step > 0);
}

// The left operand of a product with kDepth rows: sums rounded to bf16.
template <int kDepth>
struct PackedSums {
  std::uint32_t fragments[kDepth / 16][4];

  __device__ __forceinline__ void pack(const float (&p)[kDepth / 8][4]) {
#pragma unroll
    for (int step = 0; step < kDepth / 16; ++step)
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const float(&from)[4] = p[2 * step + r / 2];
        fragments[step][r] = pack_bf16(from[r % 2 * 2], from[r % 2 * 2 + 1]);
      }
  }
};

// Starts sums += p b. The caller fences, commits and waits.
template <int kDepth, int kWidth>
__device__ __forceinline__ void start_multiply(float (&sums)[kWidth / 8][4],
                                               const PackedSums<kDepth>& p,
                                               const SwizzledTile<kDepth, kWidth>& b) {
#pragma unroll
  for (int step = 0; step < kDepth / 16; ++step)
    wgmma<true>(sums, p.fragments[step], across_depth(b, step), true);
}

}  // namespace filigree::tile
