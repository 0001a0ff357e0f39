#include "kernels/elementwise/scalars.hpp"

#include "kernels/elementwise/argument_check.hpp"
#include "kernels/registry.hpp"

namespace filigree {

Work Divide::work(const Arguments& a) {
  return {a.y.numel(), a.y.numel(), (a.a.defined() ? 3 : 2) * a.y.bytes()};
}

Work SquareRoot::work(const Arguments& a) { return {a.y.numel(), a.y.numel(), 2 * a.y.bytes()}; }

std::optional<std::string> Divide::reject(const Arguments& a, const ExecutionContext&) {
  ArgumentCheck check;
  check.dtype("b", a.b, DType::f64).like("y", a.y, a.b);
  if (a.a.defined()) check.like("a", a.a, a.b);
  return check.problem();
}

std::optional<std::string> SquareRoot::reject(const Arguments& a, const ExecutionContext&) {
  return ArgumentCheck().dtype("x", a.x, DType::f64).like("y", a.y, a.x).problem();
}

void register_scalars(KernelTable& table) {
  constexpr DeviceKind cpu = DeviceKind::cpu;
  table.add<Divide>({"reference", cpu, 0, &Divide::reject, &Divide::reference});
  table.add<SquareRoot>({"reference", cpu, 0, &SquareRoot::reject, &SquareRoot::reference});
}

}  // namespace filigree
