// Whether a head is worth its work for a group of queries, from what is known before the group:
//
//   s[n,h] = sigmoid(<w_h, q[first token of group n]> + <u_h, mean of the finished keys>)
//
// (head_projection.hpp has the two products.) A head whose s is below a threshold reads nothing
// (block_selection.hpp); what the others give is multiplied by s, so that the model's loss teaches
// w and u.
#pragma once

#include "kernels/dispatch.hpp"
#include "kernels/gate/block_grid.hpp"

namespace filigree {

// y[b,n,:] = mean over the candidates m of group n (GroupBlocks) of kbar[b,m,:], 0 where there is
// none. kbar: [B*M, C], the blocks' means; y: [B*N, C], of one dtype. Candidates are added in
// ascending order in the accumulation dtype: a group has the same bits in a longer sequence.
struct FinishedKeyMean {
  static constexpr std::string_view name = "finished_key_mean";
  static constexpr WorkPart part = WorkPart::gate;
  struct Arguments {
    BlockGrid grid;
    Tensor kbar_MC, y_NC;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// dkbar[b,m,:] = sum over the groups n with candidate m of dy[b,n,:] / (candidates of n).
// Overwritten.
struct FinishedKeyMeanBackward {
  static constexpr std::string_view name = "finished_key_mean_backward";
  static constexpr WorkPart part = WorkPart::gate;
  struct Arguments {
    BlockGrid grid;
    Tensor dy_NC, dkbar_MC;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// s = sigmoid(a + b), in the accumulation dtype of a and b, all of one shape.
struct HeadGateForward {
  static constexpr std::string_view name = "head_gate_forward";
  static constexpr WorkPart part = WorkPart::gate;
  struct Arguments {
    Tensor a_NH, b_NH, s_NH;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// d = ds s (1 - s), the gradient of a and of b, of their dtype.
struct HeadGateBackward {
  static constexpr std::string_view name = "head_gate_backward";
  static constexpr WorkPart part = WorkPart::gate;
  struct Arguments {
    Tensor s_NH, ds_NH, d_NH;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// y[t,h,:] = s[b,n,h] o[t,h,:] for the group n of token t; y = o for heads with dense_heads[h] != 0
// (optional u8 [H]) and for groups inside which another document begins. o, y: [B*Sq, H*K]; s:
// [B*N, H], f64 or f32, the accumulation dtype of o.
struct ScaleHeads {
  static constexpr std::string_view name = "scale_heads";
  static constexpr WorkPart part = WorkPart::gate;
  struct Arguments {
    BlockGrid grid;
    Tensor o_THK, s_NH, dense_heads_H, y_THK;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// do = s dy;  ds[b,n,h] = sum over the tokens t of group n of <dy[t,h,:], o[t,h,:]>. Where
// y = o, do = dy and ds = 0. Both are overwritten.
struct ScaleHeadsBackward {
  static constexpr std::string_view name = "scale_heads_backward";
  static constexpr WorkPart part = WorkPart::gate;
  struct Arguments {
    BlockGrid grid;
    Tensor o_THK, s_NH, dense_heads_H, dy_THK;
    Tensor do_THK, ds_NH;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// The rows [begin, end) of sequence b's queries, counted over all sequences, that are of group n.
FILIGREE_HOST_DEVICE inline BlockRange rows_of_group(const GridSizes& grid, std::int64_t b,
                                                     std::int64_t n) {
  const std::int64_t first = b * grid.query_length - grid.query_offset;
  return {first + grid.first_query(n), first + grid.end_position(n)};
}

}  // namespace filigree
