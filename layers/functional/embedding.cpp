#include "kernels/embedding/embedding.hpp"

#include "layers/functional/functional.hpp"

namespace filigree {

Variable embedding(Tape& tape, const Variable& ids, const Variable& w, std::int64_t first_row) {
  ExecutionContext& execution = tape.execution();
  Placements y_placements, dw_placements;
  for (const Axis axis : kAxes) {
    const Placement pi = ids.placements()[axis], pw = w.placements()[axis];
    Placement y, dw;
    if (pi.is_invariant() && pw.is_invariant()) {
      y = dw = Placement::invariant();
    } else if (pi.is_sharded(0) && pw.is_replicated()) {
      y = Placement::sharded(0);
      dw = Placement::partial();
    } else {
      FILIGREE_CHECK(pi.is_invariant() && pw.is_sharded(0), "embedding: on the ", name_of(axis),
                     " axis ids are ", pi, " and w is ", pw);
      y = Placement::partial();
      dw = Placement::sharded(0);
    }
    y_placements = y_placements.with(axis, y);
    dw_placements = dw_placements.with(axis, dw);
  }
  const Tensor ids_value = ids.value();
  Tensor y =
      execution.empty({ids_value.dim(0), w.shape()[1]}, w.value().dtype(), MemoryUse::activations);
  dispatch<EmbeddingForward>(
      {.ids_T = ids_value, .w_VD = w.value(), .y_TD = y, .first_row = first_row}, execution);

  Variable output = tape.output(std::move(y), y_placements, std::array{w});
  tape.record("embedding", {w}, {output},
              [ids_value, first_row, dw_placements](const BackwardContext& backward) {
                const auto dw = backward.target(0, dw_placements);
                dispatch<EmbeddingBackward>({.ids_T = ids_value,
                                             .dy_TD = backward.output_gradient(),
                                             .dw_VD = dw.gradient,
                                             .first_row = first_row,
                                             .accumulate = dw.accumulate},
                                            backward.execution());
              });
  return output;
}

}  // namespace filigree
