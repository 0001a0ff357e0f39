// Products of warpgroups (PTX ISA, "wgmma.mma_async").
#pragma once

#include <cstddef>

#include "tests/harness/simt/engine/shadow.hpp"

namespace simt {

// An access of the running thread to its own stack: a fault where sums in flight lie.
void check_registers(const void* address, std::size_t bytes, Access access);

}  // namespace simt
