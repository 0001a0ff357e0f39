#include "kernels/activation/swiglu.hpp"

#include "kernels/elementwise/argument_check.hpp"
#include "kernels/elementwise/register_op.hpp"
#include "kernels/registry.hpp"

namespace filigree {

// exp counts as one operation here, as everywhere in the work tables.
Work SwigluForward::work(const Arguments& a) {
  const std::int64_t flops = 5 * a.y_TF.numel();
  return {flops, flops, 3 * a.y_TF.bytes()};
}

Work SwigluBackward::work(const Arguments& a) {
  const std::int64_t flops = 11 * a.dy_TF.numel();
  return {flops, flops, 5 * a.dy_TF.bytes()};
}

std::optional<std::string> SwigluForward::reject(const Arguments& a, const ExecutionContext&) {
  return ArgumentCheck()
      .floating("gate", a.gate_TF)
      .like("up", a.up_TF, a.gate_TF)
      .like("y", a.y_TF, a.gate_TF)
      .problem();
}

std::optional<std::string> SwigluBackward::reject(const Arguments& a, const ExecutionContext&) {
  return ArgumentCheck()
      .floating("gate", a.gate_TF)
      .like("up", a.up_TF, a.gate_TF)
      .like("dy", a.dy_TF, a.gate_TF)
      .like("dgate", a.dgate_TF, a.gate_TF)
      .like("dup", a.dup_TF, a.gate_TF)
      .problem();
}

void register_swiglu(KernelTable& table) {
  register_reference_and_cpu<SwigluForward>(table);
  register_reference_and_cpu<SwigluBackward>(table);
}

}  // namespace filigree
