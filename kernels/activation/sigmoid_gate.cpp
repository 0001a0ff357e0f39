#include "kernels/activation/sigmoid_gate.hpp"

#include "kernels/elementwise/argument_check.hpp"
#include "kernels/elementwise/register_op.hpp"
#include "kernels/registry.hpp"

namespace filigree {

Work SigmoidGateForward::work(const Arguments& a) {
  const std::int64_t flops = 4 * a.y_TF.numel();  // exp counts as one
  return {flops, flops, 3 * a.y_TF.bytes()};
}

Work SigmoidGateBackward::work(const Arguments& a) {
  const std::int64_t flops = 8 * a.dy_TF.numel();
  return {flops, flops, 5 * a.dy_TF.bytes()};
}

std::optional<std::string> SigmoidGateForward::reject(const Arguments& a, const ExecutionContext&) {
  return ArgumentCheck()
      .floating("x", a.x_TF)
      .like("gate", a.gate_TF, a.x_TF)
      .like("y", a.y_TF, a.x_TF)
      .problem();
}

std::optional<std::string> SigmoidGateBackward::reject(const Arguments& a,
                                                       const ExecutionContext&) {
  return ArgumentCheck()
      .floating("x", a.x_TF)
      .like("gate", a.gate_TF, a.x_TF)
      .like("dy", a.dy_TF, a.x_TF)
      .like("dx", a.dx_TF, a.x_TF)
      .like("dgate", a.dgate_TF, a.x_TF)
      .problem();
}

void register_sigmoid_gate(KernelTable& table) {
  register_reference_and_cpu<SigmoidGateForward>(table);
  register_reference_and_cpu<SigmoidGateBackward>(table);
}

}  // namespace filigree
