#include "kernels/gate/distill_loss.hpp"

#include "kernels/elementwise/register_op.hpp"
#include "kernels/gate/list_check.hpp"
#include "kernels/registry.hpp"

namespace filigree {
namespace {

template <class Arguments>
std::optional<std::string> check(const Arguments& a, const Tensor& scalar) {
  ArgumentCheck check;
  check_grid(check, a.grid);
  check_scores(check, a.grid, a.z_BHNM);
  check.dtype("groups", a.groups_R, DType::i32);
  if (check.problem()) return check.problem();
  const std::int64_t rows = a.grid.batch * a.grid.heads * a.groups_R.numel();
  const DType dtype = a.z_BHNM.dtype();
  return check.dtype("teacher", a.teacher_BHRM, dtype)
      .numel("teacher", a.teacher_BHRM, rows * a.grid.key_blocks())
      .dtype("weight", a.weight_BHR, dtype)
      .numel("weight", a.weight_BHR, rows)
      .dtype("loss", scalar, dtype)
      .numel("loss", scalar, 1)
      .dtype("total", a.total, dtype)
      .numel("total", a.total, 1)
      .problem();
}

}  // namespace

Work DistillLoss::work(const Arguments& a) {
  const std::int64_t flops = 6 * a.teacher_BHRM.numel();  // compare, exp, add; log, subtract, add
  return {flops, flops, 2 * a.teacher_BHRM.bytes() + a.weight_BHR.bytes()};
}
Work DistillLossGradient::work(const Arguments& a) {
  const std::int64_t flops = 6 * a.teacher_BHRM.numel();
  return {flops, flops,
          2 * a.teacher_BHRM.bytes() + (a.accumulate ? a.teacher_BHRM : a.dz_BHNM).bytes()};
}

std::optional<std::string> DistillLoss::reject(const Arguments& a, const ExecutionContext&) {
  return check(a, a.loss);
}
std::optional<std::string> DistillLossGradient::reject(const Arguments& a,
                                                       const ExecutionContext&) {
  if (auto problem = check(a, a.dloss)) return problem;
  return ArgumentCheck().like("dz", a.dz_BHNM, a.z_BHNM).problem();
}

void register_distill_loss(KernelTable& table) {
  register_reference_and_cpu<DistillLoss>(table);
  register_reference_and_cpu<DistillLossGradient>(table);
}

}  // namespace filigree
