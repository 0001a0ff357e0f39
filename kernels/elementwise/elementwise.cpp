#include "kernels/elementwise/elementwise.hpp"

#include "kernels/elementwise/argument_check.hpp"
#include "kernels/elementwise/register_op.hpp"
#include "kernels/registry.hpp"

namespace filigree {

Work Add::work(const Arguments& a) { return {a.y.numel(), a.y.numel(), 3 * a.y.bytes()}; }

Work Scale::work(const Arguments& a) {
  const std::int64_t flops =
      (a.factor == 1.0 && !a.by.defined() ? 0 : a.y.numel()) + (a.accumulate ? a.y.numel() : 0);
  return {flops, flops, a.x.bytes() + (a.accumulate ? 2 : 1) * a.y.bytes()};
}

Work Dot::work(const Arguments& a) {
  const std::int64_t flops = 2 * a.a.numel();
  return {flops, flops, a.a.bytes() + a.b.bytes() + a.sum.bytes()};
}

Work Dropout::work(const Arguments& a) {
  return {a.x_TD.numel(), a.x_TD.numel(), a.x_TD.bytes() + a.y_TD.bytes()};
}

std::optional<std::string> Add::reject(const Arguments& a, const ExecutionContext&) {
  return ArgumentCheck().floating("a", a.a).like("b", a.b, a.a).like("y", a.y, a.a).problem();
}

std::optional<std::string> Scale::reject(const Arguments& a, const ExecutionContext&) {
  ArgumentCheck check;
  check.floating("x", a.x).floating("y", a.y);
  if (check.problem()) return check.problem();
  check.numel("y", a.y, a.x.numel());
  if (a.by.defined()) check.dtype("by", a.by, DType::f64).numel("by", a.by, 1);
  return check.problem();
}

std::optional<std::string> Dot::reject(const Arguments& a, const ExecutionContext&) {
  return ArgumentCheck()
      .floating("a", a.a)
      .like("b", a.b, a.a)
      .dtype("sum", a.sum, DType::f64)
      .numel("sum", a.sum, 1)
      .problem();
}

std::optional<std::string> Dropout::reject(const Arguments& a, const ExecutionContext&) {
  return ArgumentCheck()
      .floating("x", a.x_TD)
      .like("y", a.y_TD, a.x_TD)
      .require(a.rate >= 0 && a.rate < 1, "rate ", a.rate, " is outside [0, 1)")
      .require(a.first_row >= 0, "first_row ", a.first_row, " is negative")
      .dtype("stream", a.stream, DType::i64)
      .numel("stream", a.stream, 1)
      .problem();
}

void register_elementwise(KernelTable& table) {
  register_reference_and_cpu<Add>(table);
  register_reference_and_cpu<Scale>(table);
  register_reference_and_cpu<Dot>(table);
  register_reference_and_cpu<Dropout>(table);
}

}  // namespace filigree
