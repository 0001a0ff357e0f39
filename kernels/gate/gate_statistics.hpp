// What a choice of blocks amounts to: how much it reads, how much of that was forced, and how much
// of attention's mass it catches. All outputs are sums, so that ranks and steps add up.
#pragma once

#include "kernels/dispatch.hpp"
#include "kernels/gate/block_grid.hpp"

namespace filigree {

// Per head, over all sequences and groups, i64 [H]:
//   pairs   (query, key) pairs that are read: listed, and allowed by causality and documents
//   blocks  listed blocks
//   forced  listed blocks that are forced (GroupBlocks)
// density = pairs / (batch * allowed_pairs(grid)), share of the budget that is forced = forced /
// blocks.
struct ListStatistics {
  static constexpr std::string_view name = "list_statistics";
  struct Arguments {
    BlockGrid grid;
    Tensor counts_BHN, indices_BHNJ;
    Tensor pairs_H, blocks_H, forced_H;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// Against the teacher of the sampled groups (BlockMassTeacher), per head, f64 or f32 [H]:
//   caught[h] = sum over b, r of weight[b,h,r] * sum of teacher[b,h,r,m] over the listed m
//   total[h]  = sum over b, r of weight[b,h,r]
// caught / total is the recall: the share of the teacher's mass inside the chosen blocks, 1 for
// every block.
struct GateRecall {
  static constexpr std::string_view name = "gate_recall";
  struct Arguments {
    BlockGrid grid;
    Tensor counts_BHN, indices_BHNJ, groups_R, teacher_BHRM, weight_BHR;
    Tensor caught_H, total_H;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

}  // namespace filigree
