#include "layers/functional/sigma_reparam.hpp"

#include <array>

#include "kernels/elementwise/elementwise.hpp"
#include "kernels/elementwise/scalars.hpp"
#include "kernels/matmul/matmul.hpp"

namespace filigree {
namespace {

struct GradientPlacements {
  Placements dw, dgamma;
};

// The table in the header.
GradientPlacements infer(const Placements& z, const Placements& w, const Placements& gamma) {
  GradientPlacements result;
  for (const Axis axis : kAxes) {
    const Placement pz = z[axis], pw = w[axis], pg = gamma[axis];
    if (pz.is_invariant() && pw.is_invariant() && pg.is_invariant()) continue;
    const bool split =
        (pz.is_sharded(1) && pw.is_sharded(0)) || (pz.is_partial() && pw.is_sharded(1));
    const bool whole = pw.is_replicated() && (pz.is_sharded(0) || pz.is_sharded(1));
    FILIGREE_CHECK(pg.is_replicated() && (split || whole), "sigma_reparam: on the ", name_of(axis),
                   " axis z is ", pz, ", w is ", pw, ", gamma is ", pg);
    result.dw = result.dw.with(axis, split ? pw : Placement::partial());
    result.dgamma = result.dgamma.with(axis, Placement::partial());
  }
  return result;
}

Tensor scaled(ExecutionContext& execution, const Tensor& x, const Tensor& by, MemoryUse use) {
  const Tensor y = execution.empty(x.shape(), x.dtype(), use);
  dispatch<Scale>({.x = x, .y = y, .by = by}, execution);
  return y;
}

Tensor quotient(ExecutionContext& execution, const Tensor& a, const Tensor& b) {
  const Tensor y = execution.empty({1}, DType::f64);
  dispatch<Divide>({.a = a, .b = b, .y = y}, execution);
  return y;
}

// dw (+)= -scale / sigma sum u v^T
void add_outer_product(ExecutionContext& execution, const SpectralEstimate& estimate,
                       const Tensor& sum, const BackwardContext::Target& dw) {
  const Tensor factor = execution.empty({1}, DType::f64);
  dispatch<Scale>({.x = quotient(execution, estimate.scale, estimate.sigma),
                   .y = factor,
                   .factor = -1.0,
                   .by = sum},
                  execution);
  const Tensor u = scaled(execution, estimate.u_O, factor, MemoryUse::workspace);
  dispatch<Matmul>({.a = u.view({u.numel(), 1}),
                    .b = estimate.v_I.view({1, estimate.v_I.numel()}),
                    .c = dw.gradient,
                    .accumulate = dw.accumulate},
                   execution);
}

}  // namespace

Variable sigma_reparam(Tape& tape, const Variable& z, const Variable& w, const Variable& gamma,
                       const SpectralEstimate& estimate, const Mesh& mesh) {
  const GradientPlacements placements = infer(z.placements(), w.placements(), gamma.placements());
  const Tensor z_value = z.value();
  Variable output =
      tape.output(scaled(tape.execution(), z_value, estimate.scale, MemoryUse::activations),
                  z.placements(), std::array{z, w, gamma});
  tape.record(
      "sigma_reparam", {z, w, gamma}, {output},
      [z_value, estimate, placements, &mesh, w_placements = w.placements(),
       dz_placements = z.placements().gradient()](const BackwardContext& backward) {
        ExecutionContext& execution = backward.execution();
        const Tensor& dy = backward.output_gradient();
        const Tensor sum = execution.empty({1}, DType::f64);
        dispatch<Dot>({.a = dy, .b = z_value, .sum = sum}, execution);
        if (backward.needs(2)) {
          const Tensor dgamma = execution.empty({1}, accumulation_dtype(z_value.dtype()));
          dispatch<Scale>({.x = quotient(execution, sum, estimate.sigma), .y = dgamma}, execution);
          backward.accumulate(2, dgamma, placements.dgamma);
        }
        if (backward.needs(1)) {
          for (const Axis axis : kAxes)
            if (w_placements[axis].is_sharded()) mesh.on(axis).all_reduce(sum);
          add_outer_product(execution, estimate, sum, backward.target(1, placements.dw));
        }
        if (backward.needs(0))
          backward.accumulate(0, scaled(execution, dy, estimate.scale, MemoryUse::activations),
                              dz_placements);
      });
  return output;
}

}  // namespace filigree
