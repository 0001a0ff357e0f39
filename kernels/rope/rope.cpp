#include "kernels/rope/rope.hpp"

#include "kernels/elementwise/argument_check.hpp"
#include "kernels/elementwise/register_op.hpp"
#include "kernels/registry.hpp"

namespace filigree {

Work Rope::work(const Arguments& a) {
  const std::int64_t flops = 3 * a.x_THK.numel();  // two products and a sum per element
  return {flops, flops, a.x_THK.bytes() + a.y_THK.bytes() + a.positions_T.bytes()};
}

std::optional<std::string> Rope::reject(const Arguments& a, const ExecutionContext&) {
  ArgumentCheck check;
  check.floating("x", a.x_THK)
      .like("y", a.y_THK, a.x_THK)
      .dtype("positions", a.positions_T, DType::i32);
  if (check.problem()) return check.problem();
  check.require(a.head_dim > 0 && a.head_dim % 2 == 0, "head_dim ", a.head_dim,
                " is not a positive even number");
  if (check.problem()) return check.problem();
  const std::int64_t T = a.positions_T.numel(), total = a.x_THK.numel();
  return check
      .require(T == 0 ? total == 0 : total % (T * a.head_dim) == 0, "x is ", a.x_THK.shape(),
               ", expected whole heads of ", a.head_dim, " for ", T, " positions")
      .problem();
}

void register_rope(KernelTable& table) { register_reference_and_cpu<Rope>(table); }

}  // namespace filigree
