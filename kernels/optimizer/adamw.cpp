#include "kernels/optimizer/adamw.hpp"

#include "kernels/elementwise/argument_check.hpp"
#include "kernels/elementwise/register_op.hpp"
#include "kernels/optimizer/update_factors.hpp"
#include "kernels/registry.hpp"

namespace filigree {

Work AdamW::work(const Arguments& a) {
  const std::int64_t flops = 15 * a.w_N.numel();
  // w, m and v are read and written, g is read, the compute copy is written.
  return {flops, flops, 7 * a.w_N.bytes() + (a.compute_N.defined() ? a.compute_N.bytes() : 0)};
}

Work SumSquares::work(const Arguments& a) {
  const std::int64_t flops = 2 * a.x_N.numel();
  return {flops, flops, a.x_N.bytes() + a.sum.bytes()};
}

std::optional<std::string> AdamW::reject(const Arguments& a, const ExecutionContext&) {
  ArgumentCheck check;
  check.floating("w", a.w_N);
  if (check.problem()) return check.problem();
  check.require(a.w_N.dtype() != DType::bf16, "w is bf16; master weights are f32 or f64")
      .like("g", a.g_N, a.w_N)
      .like("m", a.m_N, a.w_N)
      .like("v", a.v_N, a.w_N)
      .dtype("factors", a.factors, DType::f64)
      .numel("factors", a.factors, kUpdateFactors);
  if (a.compute_N.defined())
    check.dtype("compute", a.compute_N, DType::bf16).numel("compute", a.compute_N, a.w_N.numel());
  return check.problem();
}

std::optional<std::string> SumSquares::reject(const Arguments& a, const ExecutionContext&) {
  return ArgumentCheck()
      .floating("x", a.x_N)
      .dtype("sum", a.sum, DType::f64)
      .numel("sum", a.sum, 1)
      .problem();
}

void register_adamw(KernelTable& table) {
  register_reference_and_cpu<AdamW>(table);
  register_reference_and_cpu<SumSquares>(table);
}

}  // namespace filigree
