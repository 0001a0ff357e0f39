#include "kernels/gate/soft_gate.hpp"

#include "kernels/elementwise/register_op.hpp"
#include "kernels/gate/list_check.hpp"
#include "kernels/registry.hpp"

namespace filigree {
namespace {

std::optional<std::string> check(const BlockGrid& grid, const Tensor& z, const Tensor& counts,
                                 const Tensor& indices, const Tensor& dense, const Tensor& bias) {
  ArgumentCheck check;
  check_grid(check, grid);
  check_scores(check, grid, z);
  check_lists(check, grid, counts, indices);
  check_dense_heads(check, grid, dense);
  if (check.problem()) return check.problem();
  return check.dtype("bias", bias, z.dtype()).numel("bias", bias, indices.numel()).problem();
}

Work per_slot(const Tensor& indices, const Tensor& z, const Tensor& bias) {
  return {2 * indices.numel(), 2 * z.numel(), indices.bytes() + 2 * bias.bytes()};
}

}  // namespace

Work SoftGateBias::work(const Arguments& a) {
  return per_slot(a.indices_BHNJ, a.z_BHNM, a.bias_BHNJ);
}
Work SoftGateBiasBackward::work(const Arguments& a) {
  Work work = per_slot(a.indices_BHNJ, a.z_BHNM, a.dbias_BHNJ);
  work.bytes += a.dz_BHNM.bytes();
  return work;
}

std::optional<std::string> SoftGateBias::reject(const Arguments& a, const ExecutionContext&) {
  return check(a.grid, a.z_BHNM, a.counts_BHN, a.indices_BHNJ, a.dense_heads_H, a.bias_BHNJ);
}
std::optional<std::string> SoftGateBiasBackward::reject(const Arguments& a,
                                                        const ExecutionContext&) {
  if (auto problem =
          check(a.grid, a.z_BHNM, a.counts_BHN, a.indices_BHNJ, a.dense_heads_H, a.dbias_BHNJ))
    return problem;
  return ArgumentCheck().like("dz", a.dz_BHNM, a.z_BHNM).problem();
}

void register_soft_gate(KernelTable& table) {
  register_reference_and_cpu<SoftGateBias>(table);
  register_reference_and_cpu<SoftGateBiasBackward>(table);
}

}  // namespace filigree
