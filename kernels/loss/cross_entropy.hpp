// Softmax cross-entropy in two halves, so that the vocabulary can be split over ranks (Shoeybi et
// al. 2019, "Megatron-LM", section 3), and without a second buffer of the size of the logits.
#pragma once

#include "kernels/dispatch.hpp"

namespace filigree {

// Over this rank's columns [first_column, first_column + columns):
//   max[t] = max_v x[t,v];  sum[t] = sum_v exp(x[t,v] - max[t]);  target[t] = x[t, id[t]] if it is
//   here, else 0
// targets: i32 [T]; a negative target is ignored: all three are still computed, target is 0.
// Outputs in the accumulation dtype. With no columns max is -infinity and sum is 0.
struct CrossEntropyStatistics {
  static constexpr std::string_view name = "cross_entropy_statistics";
  struct Arguments {
    Tensor logits_TV, targets_T;
    Tensor max_T, sum_T, target_T;
    std::int64_t first_column = 0;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// In place: x[t,v] <- scale[t] * (exp(x[t,v] - lse[t]) - [v == id[t]]); rows with a negative target
// become 0. scale_T, lse_T in the accumulation dtype.
struct CrossEntropyGradient {
  static constexpr std::string_view name = "cross_entropy_gradient";
  struct Arguments {
    Tensor logits_TV, targets_T, lse_T, scale_T;
    std::int64_t first_column = 0;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

}  // namespace filigree
