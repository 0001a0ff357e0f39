#include "kernels/attention/attention.hpp"

#include "layers/functional/functional.hpp"

namespace filigree {

Variable dense_attention(Tape& tape, const Variable& q, const Variable& k, const Variable& v,
                         const AttentionShape& shape) {
  FILIGREE_CHECK(q.placements() == k.placements() && q.placements() == v.placements(),
                 "attention: q is ", q.placements(), ", k is ", k.placements(), ", v is ",
                 v.placements());
  for (const Axis axis : kAxes)
    FILIGREE_CHECK(!q.placements()[axis].is_partial() && !q.placements()[axis].is_replicated(),
                   "attention: q is ", q.placements());
  ExecutionContext& execution = tape.execution();
  const Tensor q_value = q.value(), k_value = k.value(), v_value = v.value();
  const Tensor o = execution.empty(q.shape(), q_value.dtype(), MemoryUse::activations);
  const Tensor lse = execution.empty({shape.batch, shape.query_heads, shape.query_length},
                                     accumulation_dtype(q_value.dtype()), MemoryUse::activations);
  dispatch<AttentionForward>({.shape = shape,
                              .q_THK = q_value,
                              .k_TGK = k_value,
                              .v_TGK = v_value,
                              .o_THK = o,
                              .lse_BHS = lse},
                             execution);

  Variable output = tape.output(o, q.placements(), std::array{q, k, v});
  tape.record("attention", {q, k, v}, {output},
              [shape, q_value, k_value, v_value, o, lse,
               placements = q.placements().gradient()](const BackwardContext& backward) {
                ExecutionContext& execution = backward.execution();
                const auto like = [&](const Tensor& x) {
                  return execution.empty(x.shape(), x.dtype(), MemoryUse::activations);
                };
                const Tensor dq = like(q_value), dk = like(k_value), dv = like(v_value);
                dispatch<AttentionBackward>({.shape = shape,
                                             .q_THK = q_value,
                                             .k_TGK = k_value,
                                             .v_TGK = v_value,
                                             .o_THK = o,
                                             .lse_BHS = lse,
                                             .do_THK = backward.output_gradient(),
                                             .dq_THK = dq,
                                             .dk_TGK = dk,
                                             .dv_TGK = dv},
                                            execution);
                const std::array gradients{dq, dk, dv};
                for (std::size_t i = 0; i < gradients.size(); ++i)
                  if (backward.needs(i)) backward.accumulate(i, gradients[i], placements);
              });
  return output;
}

}  // namespace filigree
