// Rows of one head in shared memory, brought there by asynchronous copies.
#pragma once

#include "kernels/cuda/device.hpp"
#include "kernels/cuda/tile/instructions.hpp"

namespace filigree::tile {

// kRows x kWidth elements. The 16-byte chunks of a row are permuted, so that eight rows read at one
// column (ldmatrix) or one row read whole touch every bank once.
template <class T, int kRows, int kWidth>
struct SharedTile {
  static constexpr int kPerChunk = 16 / sizeof(T);
  static constexpr int kChunks = kWidth / kPerChunk;
  static constexpr int kPermuted = kChunks < 8 ? kChunks : 8;
  static constexpr int kRowsPerLine = 8 / kPermuted;  // rows in 128 bytes, all banks once

  alignas(128) T elements[kRows * kWidth];

  __device__ T* chunk(int row, int index) {
    return elements + row * kWidth + (index ^ (row / kRowsPerLine % kPermuted)) * kPerChunk;
  }
  __device__ const T* chunk(int row, int index) const {
    return const_cast<SharedTile*>(this)->chunk(row, index);
  }
  __device__ const T& at(int row, int column) const {
    return chunk(row, column / kPerChunk)[column % kPerChunk];
  }
};

// Where the rows of one head lie: row r begins at data + r * stride and has `width` elements.
// is_aligned: every row begins at a multiple of 16 bytes and is as long as whole chunks.
template <class T>
struct RowsOfHead {
  T* data;
  std::int64_t stride;
  int width;
  bool is_aligned;

  __device__ T* row(int r) const { return data + r * stride; }
};

// Starts copies of row row_of(r) into row r of the tile; -1, and columns past the width, give
// zeros. The caller commits and waits. All threads of the block take part.
template <class T, int kRows, int kWidth, class RowOf>
__device__ __forceinline__ void start_rows(SharedTile<T, kRows, kWidth>& tile,
                                           const RowsOfHead<const T>& from, const RowOf& row_of) {
  using Tile = SharedTile<T, kRows, kWidth>;
  for (int e = static_cast<int>(threadIdx.x); e < kRows * Tile::kChunks;
       e += static_cast<int>(blockDim.x)) {
    const int r = e / Tile::kChunks, c = e % Tile::kChunks, row = row_of(r);
    const int first = c * Tile::kPerChunk;
    T* const to = tile.chunk(r, c);
    if (from.is_aligned) {
      const bool is_read = row >= 0 && first < from.width;
      copy_16(to, is_read ? from.row(row) + first : from.data, is_read ? 16 : 0);
    } else {
      for (int i = 0; i < Tile::kPerChunk; ++i)
        to[i] = row >= 0 && first + i < from.width ? from.row(row)[first + i] : from_float<T>(0.0f);
    }
  }
}

}  // namespace filigree::tile
