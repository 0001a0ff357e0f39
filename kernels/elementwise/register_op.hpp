#pragma once

#include "kernels/dispatch.hpp"

namespace filigree {

// Registers the two CPU implementations that every op of these families has as static members:
// `reference`, which is the specification, and `cpu`, the fast one. Both take what Op::reject lets
// through.
template <class Op>
void register_reference_and_cpu(KernelTable& table) {
  table.add<Op>({"reference", DeviceKind::cpu, 0, &Op::reject, &Op::reference});
  table.add<Op>({"cpu", DeviceKind::cpu, 10, &Op::reject, &Op::cpu});
}

}  // namespace filigree
