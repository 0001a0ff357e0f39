#include "kernels/gate/head_projection.hpp"

#include "kernels/elementwise/argument_check.hpp"
#include "kernels/elementwise/register_op.hpp"
#include "kernels/registry.hpp"

namespace filigree {
namespace {

std::optional<std::string> check(std::int64_t heads, std::int64_t input_heads, const Tensor& x,
                                 const Tensor& w, const Tensor& y, DType w_dtype) {
  ArgumentCheck check;
  check.floating("x", x).floating("w", w).dtype("w", w, w_dtype).dtype("y", y, x.dtype());
  if (check.problem()) return check.problem();
  check.require(x.rank() == 2 && w.rank() == 2 && y.rank() == 2, "x ", x.shape(), ", w ", w.shape(),
                ", y ", y.shape(), "; all have two dims");
  check.require(heads > 0 && input_heads > 0 && heads % input_heads == 0, heads, " heads on ",
                input_heads, " input heads");
  if (check.problem()) return check.problem();
  return check
      .require(x.dim(1) == input_heads * w.dim(1), "x is ", x.shape(), " for ", input_heads,
               " heads of width ", w.dim(1))
      .require(w.dim(0) % heads == 0, "w is ", w.shape(), " for ", heads, " heads")
      .require(y.shape() == Shape({x.dim(0), w.dim(0)}), "y is ", y.shape(), ", expected ",
               Shape({x.dim(0), w.dim(0)}))
      .problem();
}

Work product(const Tensor& x, const Tensor& w, const Tensor& y, bool accumulate,
             const Tensor& out) {
  const std::int64_t flops = 2 * x.dim(0) * w.numel();
  return {flops, flops, x.bytes() + w.bytes() + y.bytes() + (accumulate ? out.bytes() : 0)};
}

}  // namespace

HeadProjectionSizes head_projection_sizes(std::int64_t heads, std::int64_t input_heads,
                                          const Tensor& x_THK, const Tensor& w_HEK) {
  return {x_THK.dim(0), w_HEK.dim(0) / heads, w_HEK.dim(1), heads / input_heads};
}

Work HeadProjection::work(const Arguments& a) {
  return product(a.x_THK, a.w_HEK, a.y_THE, false, a.y_THE);
}
Work HeadProjectionInputGradient::work(const Arguments& a) {
  return product(a.dx_THK, a.w_HEK, a.dy_THE, a.accumulate, a.dx_THK);
}
Work HeadProjectionWeightGradient::work(const Arguments& a) {
  return product(a.x_THK, a.dw_HEK, a.dy_THE, a.accumulate, a.dw_HEK);
}

std::optional<std::string> HeadProjection::reject(const Arguments& a, const ExecutionContext&) {
  return check(a.heads, a.input_heads, a.x_THK, a.w_HEK, a.y_THE, a.x_THK.dtype());
}
std::optional<std::string> HeadProjectionInputGradient::reject(const Arguments& a,
                                                               const ExecutionContext&) {
  return check(a.heads, a.input_heads, a.dx_THK, a.w_HEK, a.dy_THE, a.dx_THK.dtype());
}
std::optional<std::string> HeadProjectionWeightGradient::reject(const Arguments& a,
                                                                const ExecutionContext&) {
  return check(a.heads, a.input_heads, a.x_THK, a.dw_HEK, a.dy_THE,
               accumulation_dtype(a.x_THK.dtype()));
}

void register_head_projection(KernelTable& table) {
  register_reference_and_cpu<HeadProjection>(table);
  register_reference_and_cpu<HeadProjectionInputGradient>(table);
  register_reference_and_cpu<HeadProjectionWeightGradient>(table);
}

}  // namespace filigree
