// One line per op that has a CUDA implementation; none in a program that does not link the CUDA
// backend, real or emulated.
#pragma once

#include "kernels/dispatch.hpp"

namespace filigree {

void add_cuda_kernels(KernelTable& table);

}  // namespace filigree
