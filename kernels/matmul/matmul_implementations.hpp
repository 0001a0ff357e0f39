// The implementations that matmul.cpp registers. run functions take checked arguments with m, n and
// k above 0, except the reference, which takes everything.
#pragma once

#include "kernels/matmul/matmul.hpp"

namespace filigree {

struct MatmulSizes {
  std::int64_t m, n, k;
};
// Throws InternalError unless the tensors are matrices that fit each other.
MatmulSizes matmul_sizes(const Matmul::Arguments& arguments);

void matmul_reference(const Matmul::Arguments&, ExecutionContext&);

void matmul_cpu(const Matmul::Arguments&, ExecutionContext&);
void matmul_onednn(const Matmul::Arguments&, ExecutionContext&);
std::optional<std::string> matmul_onednn_reject(const Matmul::Arguments&, const ExecutionContext&);

}  // namespace filigree
