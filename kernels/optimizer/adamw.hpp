// Parameter updates and the norm that clipping needs, over flat buffers.
#pragma once

#include "kernels/dispatch.hpp"

namespace filigree {

// AdamW with decoupled weight decay (Loshchilov and Hutter 2019), over N elements:
//   g' = scale * g;  m = b1 m + (1-b1) g';  v = b2 v + (1-b2) g'^2
//   w  = w - rate * ( (m / (1-b1^step)) / (sqrt(v / (1-b2^step)) + eps) + decay * w )
// rate, scale and the corrections come from `factors`, f64 [kUpdateFactors] (update_factors.hpp):
// where the scale is NaN, nothing is changed. w (the master weight), g, m, v share a dtype, f32 or
// f64. compute, when defined, is the copy that the model uses, of the same size in bf16: it is
// rounded from the new w.
struct AdamW {
  static constexpr std::string_view name = "adamw";
  struct Arguments {
    Tensor w_N, g_N, m_N, v_N, compute_N;
    Tensor factors;
    double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, decay = 0;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// sum[0] = sum_n x[n]^2, f64, added in fixed chunks whatever the number of threads; an infinity or
// NaN in x makes the sum non-finite. (+ sum when accumulate)
struct SumSquares {
  static constexpr std::string_view name = "sum_squares";
  struct Arguments {
    Tensor x_N, sum;
    bool accumulate = false;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

}  // namespace filigree
