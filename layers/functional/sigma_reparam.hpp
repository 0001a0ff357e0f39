// The spectral factor of a linear layer (Zhai et al. 2023, "Stabilizing Transformer Training by
// Preventing Attention Entropy Collapse", arXiv 2303.06296, section 3.2).
#pragma once

#include "parallel/mesh.hpp"
#include "runtime/autograd/tape.hpp"

namespace filigree {

// What is known of the largest singular value of a weight [O, I]: of u and v, unit vectors close to
// its singular vectors, the parts that belong to this rank's rows and columns, in the accumulation
// dtype. sigma = u^T W v of the whole weight, and scale = gamma / sigma: f64 [1] in the context's
// memory.
struct SpectralEstimate {
  Tensor u_O, v_I;
  Tensor sigma, scale;
};

// y = gamma / sigma(W) z  for z = x W^T: the product with W_hat = gamma / sigma(W) W. The gradient
// goes through W in sigma and takes u and v for constants, as in spectral normalisation:
//   dz = gamma / sigma dy,   dgamma = <dy, z> / sigma,   dW = -gamma / sigma^2 <dy, z> u v^T
// besides the gradient that z hands to W. gamma [1]: its value is in the estimate. Per axis:
//   z invariant,  w invariant,  gamma invariant  -> dw invariant   dgamma invariant
//   z sharded(0), w replicated, gamma replicated -> dw partial     dgamma partial
//   z sharded(1), w sharded(0), gamma replicated -> dw sharded(0)  dgamma partial
//   z partial,    w sharded(1), gamma replicated -> dw sharded(1)  dgamma partial
//   z sharded(1), w replicated, gamma replicated -> dw partial     dgamma partial
// and y is placed as z. Where w is sharded, backward sums one number over the axis.
Variable sigma_reparam(Tape& tape, const Variable& z_TO, const Variable& w_OI,
                       const Variable& gamma, const SpectralEstimate& estimate, const Mesh& mesh);

}  // namespace filigree
