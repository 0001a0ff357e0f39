#include "kernels/gate/gate_statistics.hpp"

#include "kernels/elementwise/register_op.hpp"
#include "kernels/gate/list_check.hpp"
#include "kernels/registry.hpp"

namespace filigree {

Work ListStatistics::work(const Arguments& a) {
  return {0, 0, a.counts_BHN.bytes() + a.indices_BHNJ.bytes()};
}
Work GateRecall::work(const Arguments& a) {
  const std::int64_t listed = a.weight_BHR.numel() * columns_of(a.indices_BHNJ);
  return {listed, listed, 2 * listed * size_of(a.teacher_BHRM.dtype())};
}

std::optional<std::string> ListStatistics::reject(const Arguments& a, const ExecutionContext&) {
  ArgumentCheck check;
  check_grid(check, a.grid);
  check_lists(check, a.grid, a.counts_BHN, a.indices_BHNJ);
  return check.dtype("pairs", a.pairs_H, DType::i64)
      .numel("pairs", a.pairs_H, a.grid.heads)
      .like("blocks", a.blocks_H, a.pairs_H)
      .like("forced", a.forced_H, a.pairs_H)
      .problem();
}

std::optional<std::string> GateRecall::reject(const Arguments& a, const ExecutionContext&) {
  ArgumentCheck check;
  check_grid(check, a.grid);
  check_lists(check, a.grid, a.counts_BHN, a.indices_BHNJ);
  check.dtype("groups", a.groups_R, DType::i32).floating("teacher", a.teacher_BHRM);
  if (check.problem()) return check.problem();
  const std::int64_t rows = a.grid.batch * a.grid.heads * a.groups_R.numel();
  const DType dtype = a.teacher_BHRM.dtype();
  return check.require(dtype != DType::bf16, "teacher is bf16; allowed: f64 f32")
      .numel("teacher", a.teacher_BHRM, rows * a.grid.key_blocks())
      .dtype("weight", a.weight_BHR, dtype)
      .numel("weight", a.weight_BHR, rows)
      .dtype("caught", a.caught_H, dtype)
      .numel("caught", a.caught_H, a.grid.heads)
      .like("total", a.total_H, a.caught_H)
      .problem();
}

void register_gate_statistics(KernelTable& table) {
  register_reference_and_cpu<ListStatistics>(table);
  register_reference_and_cpu<GateRecall>(table);
}

}  // namespace filigree
