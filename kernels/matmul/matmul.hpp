// General matrix product.
#pragma once

#include "kernels/dispatch.hpp"

namespace filigree {

// c[m,n] = sum_k A[m,k] B[k,n]  (+ c[m,n] when accumulate),  A = a or a^T, B = b or b^T.
//
// a is [m,k] ([k,m] when transpose_a), b is [k,n] ([n,k] when transpose_b). a and b share a dtype;
// c has that dtype, or f32 when they are bf16. Products are added in f32 (f64 for f64). k = 0 gives
// zeros.
struct Matmul {
  static constexpr std::string_view name = "matmul";
  struct Arguments {
    Tensor a, b, c;
    bool transpose_a = false, transpose_b = false;
    bool accumulate = false;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

}  // namespace filigree
