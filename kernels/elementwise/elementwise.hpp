// Element-wise ops over tensors of equal size.
#pragma once

#include "kernels/dispatch.hpp"

namespace filigree {

// y = a + b; y may be a or b.
struct Add {
  static constexpr std::string_view name = "add";
  struct Arguments {
    Tensor a, b, y;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// y = factor * x (+ y when accumulate); factor * by[0], rounded once to what is computed in, where
// `by` is defined: a factor that is known to the device only. The dtypes may differ: x of f64, f32
// or bf16 is converted to y's. With factor 1 and accumulate off this is the cast.
struct Scale {
  static constexpr std::string_view name = "scale";
  struct Arguments {
    Tensor x, y;
    double factor = 1.0;
    bool accumulate = false;
    Tensor by;  // optional f64 [1]
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// sum[0] = sum_n a[n] b[n], in f64, added in fixed chunks whatever the number of threads. a and b
// are of one dtype and may be the same tensor.
struct Dot {
  static constexpr std::string_view name = "dot";
  struct Arguments {
    Tensor a, b, sum;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// Dropout (Srivastava et al. 2014) with a mask that depends on global positions only. Element (r,
// c) of x [R, C] has the global index (first_row + r) * C + c; it is kept, and divided by 1 - rate,
// when Philox(seed, dropout, stream[0]).uniform(index) >= rate. The backward is the same op on the
// gradient.
struct Dropout {
  static constexpr std::string_view name = "dropout";
  struct Arguments {
    Tensor x_TD, y_TD;
    double rate = 0.0;
    std::uint64_t seed = 0;
    Tensor stream;  // i64 [1]
    std::int64_t first_row = 0;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

}  // namespace filigree
