#include "kernels/norm/rms_norm.hpp"

#include "layers/functional/functional.hpp"

namespace filigree {
namespace {

// The tables in functional.hpp.
Placements infer(const Placements& x, const Placements& w, bool by_heads) {
  Placements dw;
  for (const Axis axis : kAxes) {
    const Placement px = x[axis], pw = w[axis];
    if (pw.is_replicated() && (px.is_sharded(0) || (by_heads && px.is_sharded(1))))
      dw = dw.with(axis, Placement::partial());
    else
      FILIGREE_CHECK(px.is_invariant() && pw.is_invariant(), "rms_norm: on the ", name_of(axis),
                     " axis x is ", px, " and w is ", pw);
  }
  return dw;
}

// Normalises every w.numel() consecutive elements of x.
Variable normalise(Tape& tape, const Variable& x, const Variable& w, double eps,
                   const Placements& dw_placements) {
  ExecutionContext& execution = tape.execution();
  const std::int64_t width = w.shape().numel(), rows = x.shape().numel() / width;
  const Tensor x_value = x.value().view({rows, width}), w_value = w.value();
  Tensor y = execution.empty(x.shape(), x_value.dtype(), MemoryUse::activations);
  const Tensor r =
      execution.empty({rows}, accumulation_dtype(x_value.dtype()), MemoryUse::activations);
  dispatch<RmsNormForward>({.x_TD = x_value, .w_D = w_value, .y_TD = y, .r_T = r, .eps = eps},
                           execution);

  Variable output = tape.output(std::move(y), x.placements(), std::array{x, w});
  tape.record("rms_norm", {x, w}, {output},
              [x_value, w_value, r, shape = x.shape(), dx_placements = x.placements().gradient(),
               dw_placements](const BackwardContext& backward) {
                ExecutionContext& execution = backward.execution();
                const Tensor dx = execution.empty(shape, x_value.dtype(), MemoryUse::activations);
                // The kernel makes both gradients in one pass; a constant weight's is dropped.
                const auto dw = backward.needs(1)
                                    ? backward.target(1, dw_placements)
                                    : BackwardContext::Target{
                                          execution.empty(w_value.shape(), r.dtype()), false};
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

}  // namespace

Variable rms_norm(Tape& tape, const Variable& x, const Variable& w, double eps) {
  FILIGREE_CHECK_EQ(x.shape()[-1], w.shape().numel(), "rms_norm: width");
  return normalise(tape, x, w, eps, infer(x.placements(), w.placements(), false));
}

Variable head_rms_norm(Tape& tape, const Variable& x, const Variable& w, double eps) {
  FILIGREE_CHECK(x.shape()[-1] % w.shape().numel() == 0, "head_rms_norm: x is ", x.shape(),
                 ", w is ", w.shape());
  return normalise(tape, x, w, eps, infer(x.placements(), w.placements(), true));
}

}  // namespace filigree
