#include "kernels/loss/token_losses.hpp"

#include "kernels/elementwise/argument_check.hpp"
#include "kernels/registry.hpp"

namespace filigree {

Work RescaleSums::work(const Arguments& a) {
  const std::int64_t flops = 3 * a.sum_T.numel();
  return {flops, flops, a.own_max_T.bytes() + a.max_T.bytes() + 2 * a.sum_T.bytes()};
}

Work TokenLosses::work(const Arguments& a) {
  const std::int64_t flops = 4 * a.sum_T.numel();
  return {flops, flops, 5 * a.sum_T.bytes() + a.ids_T.bytes()};
}

std::optional<std::string> RescaleSums::reject(const Arguments& a, const ExecutionContext&) {
  return ArgumentCheck()
      .floating("sum", a.sum_T)
      .like("own max", a.own_max_T, a.sum_T)
      .like("max", a.max_T, a.sum_T)
      .problem();
}

std::optional<std::string> TokenLosses::reject(const Arguments& a, const ExecutionContext&) {
  ArgumentCheck check;
  check.floating("sum", a.sum_T)
      .like("max", a.max_T, a.sum_T)
      .like("target", a.target_T, a.sum_T)
      .like("lse", a.lse_T, a.sum_T)
      .like("log p", a.log_p_T, a.sum_T);
  if (check.problem()) return check.problem();
  check.dtype("ids", a.ids_T, DType::i32).numel("ids", a.ids_T, a.sum_T.numel());
  if (a.loss.defined()) check.dtype("loss", a.loss, a.sum_T.dtype()).numel("loss", a.loss, 1);
  return check.problem();
}

// A pass over a few numbers per token: the plain loop is fast enough for the CPU.
void register_token_losses(KernelTable& table) {
  table.add<RescaleSums>(
      {"reference", DeviceKind::cpu, 0, &RescaleSums::reject, &RescaleSums::reference});
  table.add<TokenLosses>(
      {"reference", DeviceKind::cpu, 0, &TokenLosses::reject, &TokenLosses::reference});
}

}  // namespace filigree
