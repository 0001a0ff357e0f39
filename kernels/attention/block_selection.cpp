#include "kernels/attention/block_selection.hpp"

#include "kernels/elementwise/register_op.hpp"
#include "kernels/gate/list_check.hpp"
#include "kernels/registry.hpp"

namespace filigree {

Work BlockSelect::work(const Arguments& a) {
  const std::int64_t comparisons = a.scores_BHNM.numel();
  return {comparisons, comparisons,
          a.scores_BHNM.bytes() + a.counts_BHN.bytes() + a.indices_BHNJ.bytes()};
}

Work BlockTranspose::work(const Arguments& a) {
  return {0, 0,
          a.counts_BHN.bytes() + a.indices_BHNJ.bytes() + a.transposed_counts_BHM.bytes() +
              a.transposed_indices_BHMN.bytes()};
}

std::optional<std::string> BlockSelect::reject(const Arguments& a, const ExecutionContext&) {
  ArgumentCheck check;
  check_grid(check, a.grid);
  check_scores(check, a.grid, a.scores_BHNM);
  check_lists(check, a.grid, a.counts_BHN, a.indices_BHNJ);
  check_dense_heads(check, a.grid, a.dense_heads_H);
  if (!check.problem() && a.head_scores_NH.defined())
    check.dtype("head_scores", a.head_scores_NH, a.scores_BHNM.dtype())
        .numel("head_scores", a.head_scores_NH, list_rows(a.grid));
  if (!check.problem() && a.rule == SelectionRule::top_k)
    check.dtype("budgets", a.budgets_N, DType::i32).numel("budgets", a.budgets_N, a.grid.groups());
  return check.problem();
}

std::optional<std::string> BlockTranspose::reject(const Arguments& a, const ExecutionContext&) {
  ArgumentCheck check;
  check.dtype("counts", a.counts_BHN, DType::i32)
      .dtype("indices", a.indices_BHNJ, DType::i32)
      .dtype("transposed_counts", a.transposed_counts_BHM, DType::i32)
      .dtype("transposed_indices", a.transposed_indices_BHMN, DType::i32);
  if (check.problem()) return check.problem();
  check.require(a.counts_BHN.rank() == 3 && a.transposed_counts_BHM.rank() == 3, "counts ",
                a.counts_BHN.shape(), " and transposed_counts ", a.transposed_counts_BHM.shape(),
                "; both have three dims");
  if (check.problem()) return check.problem();
  const std::int64_t lists = a.counts_BHN.dim(0) * a.counts_BHN.dim(1);
  return check
      .require(rows_of(a.indices_BHNJ) == a.counts_BHN.numel(), "indices is ",
               a.indices_BHNJ.shape(), " for counts ", a.counts_BHN.shape())
      .numel("transposed_counts", a.transposed_counts_BHM, lists * a.transposed_counts_BHM.dim(2))
      .numel("transposed_indices", a.transposed_indices_BHMN,
             a.transposed_counts_BHM.numel() * a.counts_BHN.dim(2))
      .problem();
}

void register_block_selection(KernelTable& table) {
  register_reference_and_cpu<BlockSelect>(table);
  register_reference_and_cpu<BlockTranspose>(table);
}

}  // namespace filigree
