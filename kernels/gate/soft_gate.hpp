// The gate end to end: its scores, added to the logits of the blocks that it chose.
#pragma once

#include "kernels/dispatch.hpp"
#include "kernels/gate/block_grid.hpp"

namespace filigree {

// bias[b,h,n,s] = strength (z[b,h,n,m_s] - max over the listed candidates of the group), m_s the
// block of slot s: log(p_m / max p) of the gate's softmax, so that the language model's loss
// reaches z as it reaches a logit, and the best block is left as it is. 0 for listed blocks without
// a score (GroupBlocks), for slots past the count, and for heads with dense_heads[h] != 0, which do
// not ask the gate. z, bias: f64 or f32.
struct SoftGateBias {
  static constexpr std::string_view name = "soft_gate_bias";
  static constexpr WorkPart part = WorkPart::gate;
  struct Arguments {
    BlockGrid grid;
    Tensor z_BHNM, counts_BHN, indices_BHNJ;
    Tensor dense_heads_H;  // optional u8 [H]
    Tensor bias_BHNJ;
    double strength = 1.0;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// With the lists held fixed: dz[m_s] = strength (dbias[s] - [m_s is the maximum] sum_s' dbias[s']),
// over the slots that have a score; of equal maxima the first is the maximum. dz is 0 elsewhere;
// added to what is there when accumulate.
struct SoftGateBiasBackward {
  static constexpr std::string_view name = "soft_gate_bias_backward";
  static constexpr WorkPart part = WorkPart::gate;
  struct Arguments {
    BlockGrid grid;
    Tensor z_BHNM, counts_BHN, indices_BHNJ, dense_heads_H;
    Tensor dbias_BHNJ, dz_BHNM;
    bool accumulate = false;
    double strength = 1.0;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

}  // namespace filigree
