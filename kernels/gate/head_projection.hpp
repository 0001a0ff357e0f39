// A linear map of its own for every head: what turns queries and pooled keys into gate features.
#pragma once

#include "kernels/dispatch.hpp"

namespace filigree {

// y[t,h,:] = W_h x[t, h / (H/Hx), :], W_h the rows [h*E, (h+1)*E) of w.
// x: [T, Hx*K], Hx divides H; w: [H*E, K]; y: [T, H*E]; all of one dtype, products added in the
// accumulation dtype.
struct HeadProjection {
  static constexpr std::string_view name = "head_projection";
  static constexpr WorkPart part = WorkPart::gate;
  struct Arguments {
    std::int64_t heads = 0, input_heads = 0;  // H, Hx
    Tensor x_THK, w_HEK, y_THE;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// dx[t,hx,:] = sum over the heads h of hx of W_h^T dy[t,h,:]  (+ dx when accumulate); heads are
// added in ascending order.
struct HeadProjectionInputGradient {
  static constexpr std::string_view name = "head_projection_input_gradient";
  static constexpr WorkPart part = WorkPart::gate;
  struct Arguments {
    std::int64_t heads = 0, input_heads = 0;
    Tensor dy_THE, w_HEK, dx_THK;
    bool accumulate = false;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// dW_h = sum_t dy[t,h,:] x[t, h / (H/Hx), :]^T  (+ dW_h when accumulate), in the accumulation
// dtype.
struct HeadProjectionWeightGradient {
  static constexpr std::string_view name = "head_projection_weight_gradient";
  static constexpr WorkPart part = WorkPart::gate;
  struct Arguments {
    std::int64_t heads = 0, input_heads = 0;
    Tensor x_THK, dy_THE, dw_HEK;
    bool accumulate = false;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// T, E, K and the heads that share one input head. The arguments have passed reject.
struct HeadProjectionSizes {
  std::int64_t tokens, out, in, shared;
};
HeadProjectionSizes head_projection_sizes(std::int64_t heads, std::int64_t input_heads,
                                          const Tensor& x_THK, const Tensor& w_HEK);

}  // namespace filigree
