// The only places where placements change: each function is one collective forward and its adjoint
// backward. Names are Megatron-LM's (Shoeybi et al. 2019, figure 3: f and g).
#pragma once

#include "parallel/mesh.hpp"
#include "runtime/autograd/tape.hpp"

namespace filigree {

// tensor axis: invariant -> replicated. Forward does nothing; backward sums the partial gradients.
Variable copy_to_tensor_parallel(Tape& tape, const Variable& x, const Mesh& mesh);

// tensor axis: partial -> invariant. Forward sums; backward does nothing.
Variable reduce_from_tensor_parallel(Tape& tape, const Variable& x, const Mesh& mesh);

}  // namespace filigree
