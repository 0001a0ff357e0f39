#include "kernels/elementwise/fill.hpp"

#include "kernels/elementwise/argument_check.hpp"
#include "kernels/registry.hpp"

namespace filigree {

Work Fill::work(const Arguments& a) { return {0, 0, a.value.bytes() + a.y.bytes()}; }

std::optional<std::string> Fill::reject(const Arguments& a, const ExecutionContext&) {
  return ArgumentCheck()
      .floating("value", a.value)
      .numel("value", a.value, 1)
      .dtype("y", a.y, a.value.dtype())
      .problem();
}

void register_fill(KernelTable& table) {
  table.add<Fill>({"reference", DeviceKind::cpu, 0, &Fill::reject, &Fill::reference});
}

}  // namespace filigree
