// From the statistics of cross_entropy.hpp to losses, once the ranks that share the vocabulary have
// exchanged theirs. All floating tensors of one dtype, the accumulation dtype of the logits.
#pragma once

#include "kernels/dispatch.hpp"

namespace filigree {

// Brings a rank's sums to the maxima of all ranks: sum[t] *= exp(own_max[t] - max[t]).
struct RescaleSums {
  static constexpr std::string_view name = "rescale_sums";
  struct Arguments {
    Tensor own_max_T, max_T, sum_T;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// lse[t] = max[t] + log(sum[t]);  log_p[t] = target[t] - lse[t], 0 where ids[t] < 0;
// loss[0] = -sum_t log_p[t], added in f64 in one order. Optional: loss. ids: i32 [T].
struct TokenLosses {
  static constexpr std::string_view name = "token_losses";
  struct Arguments {
    Tensor max_T, sum_T, target_T, ids_T;
    Tensor lse_T, log_p_T, loss;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

}  // namespace filigree
