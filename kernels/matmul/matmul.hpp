// General matrix product.
#pragma once

#include "kernels/dispatch.hpp"

namespace filigree {

// c[m,n] = sum_k A[m,k] B[k,n]  (+ c[m,n] when accumulate) (+ bias[n] where one is defined),
// A = a or a^T, B = b or b^T.
//
// a is [m,k] ([k,m] when transpose_a), b is [k,n] ([n,k] when transpose_b), bias is [n]. a and b
// share a dtype; c has that dtype, or f32 when they are bf16; bias has c's. Everything is added in
// f32 (f64 for f64) and rounded once. The empty sum of k = 0 is zero.
struct Matmul {
  static constexpr std::string_view name = "matmul";
  struct Arguments {
    Tensor a, b, c;
    bool transpose_a = false, transpose_b = false;
    bool accumulate = false;
    Tensor bias;  // optional
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

}  // namespace filigree
