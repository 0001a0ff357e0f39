// What turns the gradients of a step into an update, found where the gradients are: the host
// neither knows their norm nor whether there is an update.
#pragma once

#include "kernels/dispatch.hpp"

namespace filigree {

// Elements of AdamW's factors.
enum UpdateFactor : std::int64_t {
  kRate,
  kGradientScale,  // NaN: nothing is updated
  kCorrection1,    // 1 - beta1^step
  kCorrection2,    // 1 - beta2^step
  kUpdateFactors
};

// For i = 0, 1, two groups of parameters that are clipped apart, with their sums of squares:
//   norms[i]   = sqrt(squares[i])
//   factors[i] = { rate, min(1, clip_norm / norms[i]) or 1 where clip_norm is 0,
//                  1 - beta1^updates, 1 - beta2^updates }     after updates += 1
// Where loss or any of `squares` is not finite, norms and scales are NaN and `updates` stays.
// squares[2] only serves to notice that. All f64 but updates, i64.
struct UpdateFactors {
  static constexpr std::string_view name = "update_factors";
  struct Arguments {
    Tensor loss, squares, rate;  // [1], [3], [1]
    Tensor updates;              // [1]
    Tensor norms, factors;       // [2], [2, kUpdateFactors]
    double clip_norm = 0, beta1 = 0.9, beta2 = 0.95;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

}  // namespace filigree
