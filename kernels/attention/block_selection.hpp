// From block scores to the lists of key blocks that block-sparse attention reads.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kernels/attention/block_lists.hpp"
#include "kernels/dispatch.hpp"
#include "kernels/gate/block_grid.hpp"

namespace filigree {

enum class SelectionRule { top_k, threshold };

// For every head and group of the grid, the forced blocks (GroupBlocks) and
//   top_k:     the candidates of highest score until max(budgets[n], forced blocks) blocks are
//              listed; of equal scores the lower index;
//   threshold: the candidates whose softmax over the group's candidates is above `threshold`.
// Heads with dense_heads[h] != 0 list every allowed block instead. A group of another head whose
// head_scores[b,n,h] is below head_threshold lists nothing, unless another document begins inside
// it. scores: [B,H,N,M], f64 or f32, never NaN, read at candidates only. Lists are ascending,
// entries past the count -1. Throws InternalError where a list does not fit the capacity J of
// indices; on a GPU the kernel says so, stops, and the next call that waits for it throws.
struct BlockSelect {
  static constexpr std::string_view name = "block_select";
  static constexpr WorkPart part = WorkPart::gate;
  struct Arguments {
    BlockGrid grid;
    SelectionRule rule = SelectionRule::top_k;
    double threshold = 0.0;
    Tensor scores_BHNM;
    Tensor budgets_N;       // i32 [N], top_k only
    Tensor dense_heads_H;   // optional u8 [H]
    Tensor head_scores_NH;  // optional [B*N, H], of the dtype of scores
    double head_threshold = 0.0;
    Tensor counts_BHN, indices_BHNJ;  // i32
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// transposed_indices[b,h,m,:] = the groups n whose list holds m, ascending, then -1;
// transposed_counts[b,h,m] = how many. All i32.
struct BlockTranspose {
  static constexpr std::string_view name = "block_transpose";
  static constexpr WorkPart part = WorkPart::gate;
  struct Arguments {
    Tensor counts_BHN, indices_BHNJ;
    Tensor transposed_counts_BHM, transposed_indices_BHMN;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cpu(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
};

// ---- block_selection_lists.cpp: functions of the host, on lists in host memory ----

// A 64-bit hash of block sizes, shape, counts and the listed indices: equal lists give equal hashes
// on every machine, whatever lies past the counts. The transposed lists, which follow, are left
// out.
std::uint64_t block_list_hash(const BlockLists& lists);

// The first (sequence, head, group, slot) at which two lists differ; a block of -1 says that the
// list ends there.
struct ListDifference {
  std::int64_t sequence = 0, head = 0, group = 0, slot = 0;
  std::int32_t left = -1, right = -1;
};
// Nothing when they are equal. Throws InternalError when B, H or N differ.
std::optional<ListDifference> first_difference(const BlockLists& left, const BlockLists& right);

// ---- block_selection_budget.cpp ----

// Pairs (query, key) of one head of one sequence that causality (where the grid is causal) allows.
// Documents are not considered.
std::int64_t allowed_pairs(const BlockGrid& grid);

// Blocks for each group of the grid, so that the pairs that top_k then reads are as near to
// `density` times allowed_pairs as whole blocks permit, and never fewer than the forced ones.
// Every group gets the same k, as far as its position has so many blocks: for N blocks and large N
// that is k = N (1 - sqrt(1 - density)); the pairs that are left buy one more block for some
// groups, evenly spaced. Documents are not considered, and a short last block of an encoder counts
// as a whole one. Throws UserError when density is not in (0, 1].
std::vector<std::int32_t> budgets_for_density(double density, const BlockGrid& grid);

// The smallest capacity J that holds every list that top_k makes with these budgets; with dense
// heads, every block.
std::int64_t list_capacity(const BlockGrid& grid, const std::vector<std::int32_t>& budgets,
                           bool has_dense_heads);

}  // namespace filigree
