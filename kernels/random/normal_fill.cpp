#include "kernels/random/normal_fill.hpp"

#include "kernels/elementwise/argument_check.hpp"
#include "kernels/elementwise/register_op.hpp"
#include "kernels/registry.hpp"

namespace filigree {

Work NormalFill::work(const Arguments& a) {
  const std::int64_t flops = 2 * a.x_RC.numel();  // the affine map; random bits are not counted
  return {flops, flops, a.x_RC.bytes()};
}

std::optional<std::string> NormalFill::reject(const Arguments& a, const ExecutionContext&) {
  ArgumentCheck check;
  check.floating("x", a.x_RC);
  if (check.problem()) return check.problem();
  return check
      .require(a.first_row >= 0 && a.first_column >= 0, "first_row ", a.first_row,
               " and first_column ", a.first_column, " may not be negative")
      .require(a.first_column + columns_of(a.x_RC) <= a.global_columns, "columns [", a.first_column,
               ", ", a.first_column + columns_of(a.x_RC), ") leave the ", a.global_columns,
               " global columns")
      .problem();
}

void register_normal_fill(KernelTable& table) { register_reference_and_cpu<NormalFill>(table); }

}  // namespace filigree
