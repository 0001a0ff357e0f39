#include "kernels/norm/rms_norm.hpp"

#include "layers/functional/functional.hpp"

namespace filigree {

Variable rms_norm(Tape& tape, const Variable& x, const Variable& w, double eps) {
  ExecutionContext& execution = tape.execution();
  Placements dw_placements;
  for (const Axis axis : kAxes) {
    const Placement px = x.placements()[axis], pw = w.placements()[axis];
    if (px.is_sharded(0) && pw.is_replicated())
      dw_placements = dw_placements.with(axis, Placement::partial());
    else
      FILIGREE_CHECK(px.is_invariant() && pw.is_invariant(), "rms_norm: on the ", name_of(axis),
                     " axis x is ", px, " and w is ", pw);
  }
  const Tensor x_value = x.value(), w_value = w.value();
  Tensor y = execution.empty(x.shape(), x_value.dtype(), MemoryUse::activations);
  const Tensor r =
      execution.empty({x.shape()[0]}, accumulation_dtype(x_value.dtype()), MemoryUse::activations);
  dispatch<RmsNormForward>({.x_TD = x_value, .w_D = w_value, .y_TD = y, .r_T = r, .eps = eps},
                           execution);

  Variable output = tape.output(std::move(y), x.placements(), std::array{x, w});
  tape.record("rms_norm", {x, w}, {output},
              [x_value, w_value, r, dx_placements = x.placements().gradient(),
               dw_placements](const BackwardContext& backward) {
                ExecutionContext& execution = backward.execution();
                const Tensor dx =
                    execution.empty(x_value.shape(), x_value.dtype(), MemoryUse::activations);
                const auto dw = backward.target(1, dw_placements);
                dispatch<RmsNormBackward>({.x_TD = x_value,
                                           .w_D = w_value,
                                           .r_T = r,
                                           .dy_TD = backward.output_gradient(),
                                           .dx_TD = dx,
                                           .dw_D = dw.gradient,
                                           .accumulate_dw = dw.accumulate},
                                          execution);
                if (backward.needs(0)) backward.accumulate(0, dx, dx_placements);
              });
  return output;
}

}  // namespace filigree
