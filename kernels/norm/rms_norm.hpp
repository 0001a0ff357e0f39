// Root-mean-square normalisation (Zhang and Sennrich 2019, "Root Mean Square Layer Normalization").
#pragma once

#include "kernels/dispatch.hpp"

namespace filigree {

// y[t,d] = x[t,d] * r[t] * w[d],   r[t] = 1 / sqrt(mean_d x[t,d]^2 + eps)
// x, y, w: f64, f32 or bf16 alike; r: the accumulation dtype, kept for backward.
struct RmsNormForward {
  static constexpr std::string_view name = "rms_norm_forward";
  struct Arguments {
    Tensor x_TD, w_D, y_TD, r_T;
    double eps = 1e-6;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// dx[t,d] = r[t] * (w[d] dy[t,d] - x[t,d] r[t]^2 / D * sum_e w[e] dy[t,e] x[t,e])      overwritten
// dw[d]   = sum_t dy[t,d] x[t,d] r[t]            in the accumulation dtype, added when
// accumulate_dw Rows are summed in fixed chunks, so that the result does not depend on the number
// of threads.
struct RmsNormBackward {
  static constexpr std::string_view name = "rms_norm_backward";
  struct Arguments {
    Tensor x_TD, w_D, r_T, dy_TD;
    Tensor dx_TD, dw_D;
    bool accumulate_dw = false;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

}  // namespace filigree
