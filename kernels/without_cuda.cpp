// What a program has in place of CUDA kernels that does not link the CUDA backend.
#include "kernels/cuda/registry.hpp"

namespace filigree {

void add_cuda_kernels(KernelTable&) {}

}  // namespace filigree
