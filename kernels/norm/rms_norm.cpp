#include "kernels/norm/rms_norm.hpp"

#include "kernels/elementwise/argument_check.hpp"
#include "kernels/elementwise/register_op.hpp"
#include "kernels/registry.hpp"

namespace filigree {

Work RmsNormForward::work(const Arguments& a) {
  const std::int64_t flops = 4 * a.x_TD.numel();  // square, add, two products
  return {flops, flops, a.x_TD.bytes() + a.w_D.bytes() + a.y_TD.bytes() + a.r_T.bytes()};
}

Work RmsNormBackward::work(const Arguments& a) {
  const std::int64_t flops = 10 * a.x_TD.numel();  // dot 3, dx 4, dw 3
  return {flops, flops,
          a.x_TD.bytes() + a.dy_TD.bytes() + a.dx_TD.bytes() + a.w_D.bytes() + a.r_T.bytes() +
              (a.accumulate_dw ? 2 : 1) * a.dw_D.bytes()};
}

std::optional<std::string> RmsNormForward::reject(const Arguments& a, const ExecutionContext&) {
  ArgumentCheck check;
  check.floating("x", a.x_TD).like("y", a.y_TD, a.x_TD);
  if (check.problem()) return check.problem();
  const DType dtype = a.x_TD.dtype();
  return check.require(columns_of(a.x_TD) > 0, "rows of x are empty")
      .dtype("w", a.w_D, dtype)
      .numel("w", a.w_D, columns_of(a.x_TD))
      .dtype("r", a.r_T, accumulation_dtype(dtype))
      .numel("r", a.r_T, rows_of(a.x_TD))
      .problem();
}

std::optional<std::string> RmsNormBackward::reject(const Arguments& a, const ExecutionContext&) {
  ArgumentCheck check;
  check.floating("x", a.x_TD).like("dy", a.dy_TD, a.x_TD).like("dx", a.dx_TD, a.x_TD);
  if (check.problem()) return check.problem();
  const DType dtype = a.x_TD.dtype();
  return check.require(columns_of(a.x_TD) > 0, "rows of x are empty")
      .dtype("w", a.w_D, dtype)
      .numel("w", a.w_D, columns_of(a.x_TD))
      .dtype("r", a.r_T, accumulation_dtype(dtype))
      .numel("r", a.r_T, rows_of(a.x_TD))
      .dtype("dw", a.dw_D, accumulation_dtype(dtype))
      .numel("dw", a.dw_D, columns_of(a.x_TD))
      .problem();
}

void register_rms_norm(KernelTable& table) {
  register_reference_and_cpu<RmsNormForward>(table);
  register_reference_and_cpu<RmsNormBackward>(table);
}

}  // namespace filigree
