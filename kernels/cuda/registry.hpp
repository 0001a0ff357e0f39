// One line per op that has a CUDA implementation. Linked where the CUDA backend is, real or
// emulated.
#pragma once

#include "kernels/dispatch.hpp"

namespace filigree {

void add_cuda_kernels(KernelTable& table);

}  // namespace filigree
