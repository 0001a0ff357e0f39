// Checks of arguments that several of the gate's ops have in common.
#pragma once

#include "kernels/gate/block_grid.hpp"

namespace filigree {

inline std::int64_t list_rows(const BlockGrid& grid) {
  return grid.batch * grid.heads * grid.groups();
}

// z: [B,H,N,M], f64 or f32. The grid has been checked.
inline void check_scores(ArgumentCheck& check, const BlockGrid& grid, const Tensor& z) {
  check.floating("z", z);
  if (check.problem()) return;
  check.require(z.dtype() != DType::bf16, "z is bf16; allowed: f64 f32")
      .numel("z", z, list_rows(grid) * grid.key_blocks());
}

inline void check_lists(ArgumentCheck& check, const BlockGrid& grid, const Tensor& counts,
                        const Tensor& indices) {
  check.dtype("counts", counts, DType::i32).dtype("indices", indices, DType::i32);
  if (check.problem()) return;
  check.numel("counts", counts, list_rows(grid))
      .require(rows_of(indices) == list_rows(grid), "indices is ", indices.shape(), ", expected ",
               list_rows(grid), " rows");
}

inline void check_dense_heads(ArgumentCheck& check, const BlockGrid& grid, const Tensor& dense) {
  if (!dense.defined()) return;
  check.dtype("dense_heads", dense, DType::u8).numel("dense_heads", dense, grid.heads);
}

inline bool is_dense_head(const Tensor& dense_heads_H, std::int64_t h) {
  return dense_heads_H.defined() && dense_heads_H.data<std::uint8_t>()[h] != 0;
}

// Whether the head gate has a say over group n of head h: not over dense heads, nor where another
// document begins inside the group, whose tokens may not depend on the first token's.
inline bool is_head_gated(const BlockGrid& grid, const Tensor& dense_heads_H, std::int64_t b,
                          std::int64_t h, std::int64_t n) {
  return !is_dense_head(dense_heads_H, h) && !spans_documents(grid, b, n);
}

}  // namespace filigree
