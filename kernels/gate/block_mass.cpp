#include "kernels/gate/block_mass.hpp"

#include <algorithm>

#include "kernels/elementwise/register_op.hpp"
#include "kernels/gate/list_check.hpp"
#include "kernels/registry.hpp"

namespace filigree {

namespace {

std::int64_t visible_pairs(const BlockGrid& grid, const Tensor& groups) {
  std::int64_t pairs = 0;
  for (const std::int32_t n : groups.span<std::int32_t>())
    for (std::int64_t b = 0; b < grid.batch; ++b)
      for (std::int64_t p = grid.first_query(n); p < grid.end_position(n); ++p)
        pairs += visible_key_range(grid, b, p).size();
  return pairs;
}

bool host_can_count(const BlockMassTeacher::Arguments& a) {
  return a.groups_R.device().kind == DeviceKind::cpu;
}

std::int64_t flops_per_pair(const BlockMassTeacher::Arguments& a) {
  return 2 * a.q_THK.dim(1);  // of all heads
}

}  // namespace

Work BlockMassTeacher::work(const Arguments& a) {
  const std::int64_t flops =
      host_can_count(a) ? flops_per_pair(a) * visible_pairs(a.grid, a.groups_R) : 0;
  return {flops, flops, a.q_THK.bytes() + a.k_TGK.bytes() + a.teacher_BHRM.bytes()};
}

void BlockMassTeacher::count_later(const Arguments& a, ExecutionContext& context) {
  if (host_can_count(a)) return;
  const Tensor pairs = context.count_later(part, flops_per_pair(a));
  dispatch<CountGroupPairs>({.grid = a.grid, .groups_R = a.groups_R, .pairs = pairs}, context);
}

Work CountGroupPairs::work(const Arguments& a) { return {0, 0, a.groups_R.bytes()}; }

std::optional<std::string> CountGroupPairs::reject(const Arguments& a, const ExecutionContext&) {
  ArgumentCheck check;
  check_grid(check, a.grid);
  return check.dtype("groups", a.groups_R, DType::i32)
      .dtype("pairs", a.pairs, DType::i64)
      .numel("pairs", a.pairs, 2)
      .problem();
}

void CountGroupPairs::reference(const Arguments& a, ExecutionContext&) {
  std::fill_n(a.pairs.data<std::int64_t>(), 2, visible_pairs(a.grid, a.groups_R));
}

std::optional<std::string> BlockMassTeacher::reject(const Arguments& a, const ExecutionContext&) {
  ArgumentCheck check;
  check_grid(check, a.grid);
  check_dense_heads(check, a.grid, a.dense_heads_H);
  check.floating("q", a.q_THK)
      .dtype("k", a.k_TGK, a.q_THK.dtype())
      .dtype("groups", a.groups_R, DType::i32)
      .require(a.grid.heads > 0 && a.kv_heads > 0 && a.grid.heads % a.kv_heads == 0, a.grid.heads,
               " heads on ", a.kv_heads, " key heads");
  if (check.problem()) return check.problem();
  check.require(a.q_THK.rank() == 2 && a.k_TGK.rank() == 2, "q ", a.q_THK.shape(), ", k ",
                a.k_TGK.shape(), "; both have two dims");
  if (check.problem()) return check.problem();
  const DType accumulation = accumulation_dtype(a.q_THK.dtype());
  const std::int64_t rows = a.grid.batch * a.grid.heads * a.groups_R.numel();
  const std::int64_t width = a.q_THK.dim(1) / a.grid.heads;
  check.numel("q", a.q_THK, a.grid.batch * a.grid.query_length * a.grid.heads * width)
      .numel("k", a.k_TGK, a.grid.batch * a.grid.key_length * a.kv_heads * width)
      .dtype("teacher", a.teacher_BHRM, accumulation)
      .numel("teacher", a.teacher_BHRM, rows * a.grid.key_blocks())
      .dtype("weight", a.weight_BHR, accumulation)
      .numel("weight", a.weight_BHR, rows);
  if (a.entropy_BHR.defined())
    check.dtype("entropy", a.entropy_BHR, accumulation).numel("entropy", a.entropy_BHR, rows);
  if (a.largest_BHR.defined())
    check.dtype("largest", a.largest_BHR, accumulation).numel("largest", a.largest_BHR, rows);
  return check.problem();
}

void register_block_mass(KernelTable& table) {
  register_reference_and_cpu<BlockMassTeacher>(table);
  table.add<CountGroupPairs>(
      {"reference", DeviceKind::cpu, 0, &CountGroupPairs::reject, &CountGroupPairs::reference});
}

}  // namespace filigree
