// How far the gate's softmax is from what attention gives to the blocks, and its gradient in closed
// form.
#pragma once

#include "kernels/dispatch.hpp"
#include "kernels/gate/block_grid.hpp"

namespace filigree {

// With p the teacher's row r of (b, h), n = groups[r] and p_hat = softmax of z[b,h,n,:] over the
// group's candidates:
//   KL(b,h,r) = sum over m with p[m] > 0 of p[m] (log p[m] - log p_hat[m])
//   loss = sum of weight KL / total,  total = sum of weight       (both 0 when total is)
// A mean over rows, not elements, so that the gradient does not shrink with the sequence. loss and
// total have one element, of z's dtype (f64 or f32); who splits heads or batch over ranks adds up
// loss * total and total. groups: i32 [R], distinct.
struct DistillLoss {
  static constexpr std::string_view name = "distill_loss";
  static constexpr WorkPart part = WorkPart::teacher;
  struct Arguments {
    BlockGrid grid;
    Tensor z_BHNM, groups_R, teacher_BHRM, weight_BHR;
    Tensor loss, total;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// dz[b,h,n,m] = dloss weight / total (p_hat[m] - p[m]) at the candidates of sampled groups (0 when
// total is), which is exact and cannot blow up where p_hat vanishes; 0 elsewhere. Added to what is
// there when accumulate. The teacher is a constant.
struct DistillLossGradient {
  static constexpr std::string_view name = "distill_loss_gradient";
  static constexpr WorkPart part = WorkPart::teacher;
  struct Arguments {
    BlockGrid grid;
    Tensor z_BHNM, groups_R, teacher_BHRM, weight_BHR;
    Tensor dloss, total;  // one element each
    Tensor dz_BHNM;
    bool accumulate = false;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

}  // namespace filigree
