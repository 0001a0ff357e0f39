#include "kernels/optimizer/update_factors.hpp"

#include "kernels/elementwise/argument_check.hpp"
#include "kernels/registry.hpp"

namespace filigree {

Work UpdateFactors::work(const Arguments& a) {
  return {0, 0, a.squares.bytes() + a.norms.bytes() + a.factors.bytes()};
}

std::optional<std::string> UpdateFactors::reject(const Arguments& a, const ExecutionContext&) {
  return ArgumentCheck()
      .dtype("loss", a.loss, DType::f64)
      .numel("loss", a.loss, 1)
      .dtype("squares", a.squares, DType::f64)
      .numel("squares", a.squares, 3)
      .dtype("rate", a.rate, DType::f64)
      .numel("rate", a.rate, 1)
      .dtype("updates", a.updates, DType::i64)
      .numel("updates", a.updates, 1)
      .dtype("norms", a.norms, DType::f64)
      .numel("norms", a.norms, 2)
      .dtype("factors", a.factors, DType::f64)
      .numel("factors", a.factors, 2 * kUpdateFactors)
      .problem();
}

void register_update_factors(KernelTable& table) {
  table.add<UpdateFactors>(
      {"reference", DeviceKind::cpu, 0, &UpdateFactors::reject, &UpdateFactors::reference});
}

}  // namespace filigree
