#include "kernels/attention/attention.hpp"

#include "layers/functional/functional.hpp"

namespace filigree {
namespace {

void check_placements(const Variable& q, const Variable& k, const Variable& v,
                      const Variable& bias) {
  FILIGREE_CHECK(q.placements() == k.placements() && q.placements() == v.placements(),
                 "attention: q is ", q.placements(), ", k is ", k.placements(), ", v is ",
                 v.placements());
  FILIGREE_CHECK(!bias.defined() || bias.placements() == q.placements(), "attention: q is ",
                 q.placements(), ", bias is ", bias.placements());
  for (const Axis axis : kAxes)
    FILIGREE_CHECK(!q.placements()[axis].is_partial() && !q.placements()[axis].is_replicated(),
                   "attention: q is ", q.placements());
}

void backward_of(const BackwardContext& backward, AttentionBackward::Arguments arguments,
                 const Placements& placements) {
  ExecutionContext& execution = backward.execution();
  const auto like = [&](const Tensor& x) {
    return execution.empty(x.shape(), x.dtype(), MemoryUse::activations);
  };
  arguments.do_THK = backward.output_gradient();
  arguments.dq_THK = like(arguments.q_THK);
  arguments.dk_TGK = like(arguments.k_TGK);
  arguments.dv_TGK = like(arguments.v_TGK);
  if (arguments.pattern.bias_BHNJ.defined())
    arguments.dbias_BHNJ = like(arguments.pattern.bias_BHNJ);
  dispatch<AttentionBackward>(arguments, execution);
  const std::array gradients{arguments.dq_THK, arguments.dk_TGK, arguments.dv_TGK,
                             arguments.dbias_BHNJ};
  for (std::size_t i = 0; i < gradients.size(); ++i)
    if (gradients[i].defined() && backward.needs(i))
      backward.accumulate(i, gradients[i], placements);
}

}  // namespace

Variable attention(Tape& tape, const Variable& q, const Variable& k, const Variable& v,
                   const AttentionShape& shape, AttentionPattern pattern, const Variable& bias) {
  check_placements(q, k, v, bias);
  FILIGREE_CHECK(!pattern.bias_BHNJ.defined(), "attention: the pattern has a bias of its own");
  if (bias.defined()) pattern.bias_BHNJ = bias.value();
  ExecutionContext& execution = tape.execution();
  const Tensor o = execution.empty(q.shape(), q.value().dtype(), MemoryUse::activations);
  const Tensor lse = execution.empty({shape.batch, shape.query_heads, shape.query_length},
                                     accumulation_dtype(o.dtype()), MemoryUse::activations);
  dispatch<AttentionForward>({.shape = shape,
                              .q_THK = q.value(),
                              .k_TGK = k.value(),
                              .v_TGK = v.value(),
                              .o_THK = o,
                              .lse_BHS = lse,
                              .pattern = pattern},
                             execution);

  std::vector<Variable> inputs{q, k, v};
  if (bias.defined()) inputs.push_back(bias);
  Variable output = tape.output(o, q.placements(), inputs);
  tape.record("attention", inputs, {output},
              [arguments = AttentionBackward::Arguments{.shape = shape,
                                                        .q_THK = q.value(),
                                                        .k_TGK = k.value(),
                                                        .v_TGK = v.value(),
                                                        .o_THK = o,
                                                        .lse_BHS = lse,
                                                        .do_THK = {},
                                                        .dq_THK = {},
                                                        .dk_TGK = {},
                                                        .dv_TGK = {},
                                                        .pattern = std::move(pattern)},
               placements = q.placements().gradient()](const BackwardContext& backward) {
                backward_of(backward, arguments, placements);
              });
  return output;
}

}  // namespace filigree
