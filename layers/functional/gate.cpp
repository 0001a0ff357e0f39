#include "layers/functional/gate.hpp"

#include <array>

#include "kernels/gate/distill_loss.hpp"
#include "kernels/gate/gate_scores.hpp"
#include "kernels/gate/head_gate.hpp"
#include "kernels/gate/head_projection.hpp"
#include "kernels/gate/pooling.hpp"
#include "kernels/gate/soft_gate.hpp"

namespace filigree {
namespace {

Tensor rows_like(ExecutionContext& execution, const Tensor& x, std::int64_t rows) {
  return execution.empty({rows, x.dim(1)}, x.dtype(), MemoryUse::activations);
}

Tensor like(ExecutionContext& execution, const Tensor& x) {
  return execution.empty(x.shape(), x.dtype(), MemoryUse::activations);
}

std::int64_t pieces(const Tensor& rows, std::int64_t batch, std::int64_t size) {
  return batch == 0 ? 0 : batch * ((rows.dim(0) / batch + size - 1) / size);
}

// Rows, or scores, split by sequences or by heads.
void check_split(const char* op, const Variable& x) {
  for (const Axis axis : kAxes) {
    const Placement placement = x.placements()[axis];
    FILIGREE_CHECK(placement.is_invariant() || placement.is_sharded(0) || placement.is_sharded(1),
                   op, ": on the ", name_of(axis), " axis the input is ", placement);
  }
}

void check_alike(const char* op, const Variable& a, const Variable& b) {
  FILIGREE_CHECK(a.placements() == b.placements(), op, ": ", a.placements(), " and ",
                 b.placements(), " differ");
}

// The table in gate.hpp.
Placements weight_gradient_placements(const Placements& x, const Placements& w) {
  Placements dw;
  for (const Axis axis : kAxes) {
    const Placement px = x[axis], pw = w[axis];
    if (px.is_invariant() && pw.is_invariant()) continue;
    const bool by_rows = px.is_sharded(0) && pw.is_replicated();
    FILIGREE_CHECK(by_rows || (px.is_sharded(1) && pw.is_sharded(0)), "head projection: on the ",
                   name_of(axis), " axis x is ", px, " and w is ", pw);
    dw = dw.with(axis, by_rows ? Placement::partial() : Placement::sharded(0));
  }
  return dw;
}

}  // namespace

Variable block_mean_keys(Tape& tape, const Variable& k, std::int64_t batch,
                         std::int64_t key_block) {
  check_split("block mean keys", k);
  ExecutionContext& execution = tape.execution();
  const Tensor means = rows_like(execution, k.value(), pieces(k.value(), batch, key_block));
  dispatch<BlockMeanKeys>(
      {.batch = batch, .key_block = key_block, .k_TC = k.value(), .kbar_MC = means}, execution);
  Variable output = tape.output(means, k.placements(), std::array{k});
  tape.record("block_mean_keys", {k}, {output},
              [batch, key_block, rows = k.shape()[0],
               placements = k.placements().gradient()](const BackwardContext& backward) {
                const Tensor& dmeans = backward.output_gradient();
                const Tensor dk = rows_like(backward.execution(), dmeans, rows);
                dispatch<BlockMeanKeysBackward>(
                    {.batch = batch, .key_block = key_block, .dkbar_MC = dmeans, .dk_TC = dk},
                    backward.execution());
                backward.accumulate(0, dk, placements);
              });
  return output;
}

Variable group_queries(Tape& tape, const Variable& q, std::int64_t batch,
                       std::int64_t query_group) {
  check_split("group queries", q);
  ExecutionContext& execution = tape.execution();
  const Tensor firsts = rows_like(execution, q.value(), pieces(q.value(), batch, query_group));
  dispatch<GroupQueries>(
      {.batch = batch, .query_block = query_group, .q_TC = q.value(), .qg_NC = firsts}, execution);
  Variable output = tape.output(firsts, q.placements(), std::array{q});
  tape.record("group_queries", {q}, {output},
              [batch, query_group, rows = q.shape()[0],
               placements = q.placements().gradient()](const BackwardContext& backward) {
                const Tensor& dfirsts = backward.output_gradient();
                const Tensor dq = rows_like(backward.execution(), dfirsts, rows);
                dispatch<GroupQueriesBackward>(
                    {.batch = batch, .query_block = query_group, .dqg_NC = dfirsts, .dq_TC = dq},
                    backward.execution());
                backward.accumulate(0, dq, placements);
              });
  return output;
}

Variable group_mean_queries(Tape& tape, const Variable& q, std::int64_t batch,
                            std::int64_t query_group, const Tensor& document_begin) {
  check_split("group mean queries", q);
  FILIGREE_CHECK(!q.requires_gradient(), "group mean queries have no gradient");
  ExecutionContext& execution = tape.execution();
  const Tensor means = rows_like(execution, q.value(), pieces(q.value(), batch, query_group));
  dispatch<GroupMeanQueries>({.batch = batch,
                              .query_block = query_group,
                              .q_TC = q.value(),
                              .document_begin_T = document_begin,
                              .qg_NC = means},
                             execution);
  return Variable(means, q.placements());
}

Variable block_max_min_mean_keys(Tape& tape, const Variable& k, std::int64_t batch,
                                 std::int64_t key_block, std::int64_t kv_heads) {
  check_split("block max, min and mean keys", k);
  ExecutionContext& execution = tape.execution();
  const Tensor rows = k.value();
  const Tensor pools = execution.empty({pieces(rows, batch, key_block), 3 * rows.dim(1)},
                                       rows.dtype(), MemoryUse::activations);
  dispatch<BlockMaxMinMeanKeys>({.batch = batch,
                                 .key_block = key_block,
                                 .kv_heads = kv_heads,
                                 .k_TGK = rows,
                                 .kp_MGP = pools},
                                execution);
  Variable output = tape.output(pools, k.placements(), std::array{k});
  tape.record("block_max_min_mean_keys", {k}, {output},
              [batch, key_block, kv_heads, rows,
               placements = k.placements().gradient()](const BackwardContext& backward) {
                const Tensor dk = like(backward.execution(), rows);
                dispatch<BlockMaxMinMeanKeysBackward>({.batch = batch,
                                                       .key_block = key_block,
                                                       .kv_heads = kv_heads,
                                                       .k_TGK = rows,
                                                       .dkp_MGP = backward.output_gradient(),
                                                       .dk_TGK = dk},
                                                      backward.execution());
                backward.accumulate(0, dk, placements);
              });
  return output;
}

Variable head_projection(Tape& tape, const Variable& x, const Variable& w, std::int64_t heads,
                         std::int64_t input_heads) {
  const Placements dw_placements = weight_gradient_placements(x.placements(), w.placements());
  ExecutionContext& execution = tape.execution();
  const Tensor x_value = x.value(), w_value = w.value();
  const Tensor y =
      execution.empty({x_value.dim(0), w_value.dim(0)}, x_value.dtype(), MemoryUse::activations);
  dispatch<HeadProjection>(
      {.heads = heads, .input_heads = input_heads, .x_THK = x_value, .w_HEK = w_value, .y_THE = y},
      execution);
  Variable output = tape.output(y, x.placements(), std::array{x, w});
  tape.record("head_projection", {x, w}, {output},
              [x_value, w_value, heads, input_heads, dx_placements = x.placements().gradient(),
               dw_placements](const BackwardContext& backward) {
                const Tensor& dy = backward.output_gradient();
                if (backward.needs(0)) {
                  const auto dx = backward.target(0, dx_placements);
                  dispatch<HeadProjectionInputGradient>({.heads = heads,
                                                         .input_heads = input_heads,
                                                         .dy_THE = dy,
                                                         .w_HEK = w_value,
                                                         .dx_THK = dx.gradient,
                                                         .accumulate = dx.accumulate},
                                                        backward.execution());
                }
                if (backward.needs(1)) {
                  const auto dw = backward.target(1, dw_placements);
                  dispatch<HeadProjectionWeightGradient>({.heads = heads,
                                                          .input_heads = input_heads,
                                                          .x_THK = x_value,
                                                          .dy_THE = dy,
                                                          .dw_HEK = dw.gradient,
                                                          .accumulate = dw.accumulate},
                                                         backward.execution());
                }
              });
  return output;
}

Variable gate_scores(Tape& tape, const Variable& qg, const Variable& kg, const BlockGrid& grid,
                     double scale) {
  check_alike("gate scores", qg, kg);
  check_split("gate scores", qg);
  ExecutionContext& execution = tape.execution();
  const Tensor qg_value = qg.value(), kg_value = kg.value();
  const Tensor z = execution.empty({grid.batch, grid.heads, grid.groups(), grid.key_blocks()},
                                   accumulation_dtype(qg_value.dtype()), MemoryUse::activations);
  dispatch<GateScores>(
      {.grid = grid, .scale = scale, .qg_NHE = qg_value, .kg_MHE = kg_value, .z_BHNM = z},
      execution);
  Variable output = tape.output(z, qg.placements(), std::array{qg, kg});
  tape.record("gate_scores", {qg, kg}, {output},
              [grid, scale, qg_value, kg_value,
               placements = qg.placements().gradient()](const BackwardContext& backward) {
                ExecutionContext& execution = backward.execution();
                const Tensor dqg = like(execution, qg_value), dkg = like(execution, kg_value);
                dispatch<GateScoresBackward>({.grid = grid,
                                              .scale = scale,
                                              .qg_NHE = qg_value,
                                              .kg_MHE = kg_value,
                                              .dz_BHNM = backward.output_gradient(),
                                              .dqg_NHE = dqg,
                                              .dkg_MHE = dkg},
                                             execution);
                if (backward.needs(0)) backward.accumulate(0, dqg, placements);
                if (backward.needs(1)) backward.accumulate(1, dkg, placements);
              });
  return output;
}

Variable soft_gate_bias(Tape& tape, const Variable& z, const BlockLists& lists,
                        const Tensor& dense_heads, const BlockGrid& grid, double strength) {
  check_split("soft gate bias", z);
  ExecutionContext& execution = tape.execution();
  const Tensor z_value = z.value();
  const Tensor bias =
      execution.empty(lists.indices_BHNJ.shape(), z_value.dtype(), MemoryUse::activations);
  dispatch<SoftGateBias>({.grid = grid,
                          .z_BHNM = z_value,
                          .counts_BHN = lists.counts_BHN,
                          .indices_BHNJ = lists.indices_BHNJ,
                          .dense_heads_H = dense_heads,
                          .bias_BHNJ = bias,
                          .strength = strength},
                         execution);
  Variable output = tape.output(bias, z.placements(), std::array{z});
  tape.record("soft_gate_bias", {z}, {output},
              [grid, z_value, dense_heads, strength, counts = lists.counts_BHN,
               indices = lists.indices_BHNJ,
               placements = z.placements().gradient()](const BackwardContext& backward) {
                const auto dz = backward.target(0, placements);
                dispatch<SoftGateBiasBackward>({.grid = grid,
                                                .z_BHNM = z_value,
                                                .counts_BHN = counts,
                                                .indices_BHNJ = indices,
                                                .dense_heads_H = dense_heads,
                                                .dbias_BHNJ = backward.output_gradient(),
                                                .dz_BHNM = dz.gradient,
                                                .accumulate = dz.accumulate,
                                                .strength = strength},
                                               backward.execution());
              });
  return output;
}

Variable finished_key_mean(Tape& tape, const Variable& kbar, const BlockGrid& grid) {
  check_split("finished key mean", kbar);
  ExecutionContext& execution = tape.execution();
  const Tensor means = rows_like(execution, kbar.value(), grid.batch * grid.groups());
  dispatch<FinishedKeyMean>({.grid = grid, .kbar_MC = kbar.value(), .y_NC = means}, execution);
  Variable output = tape.output(means, kbar.placements(), std::array{kbar});
  tape.record("finished_key_mean", {kbar}, {output},
              [grid, rows = kbar.shape()[0],
               placements = kbar.placements().gradient()](const BackwardContext& backward) {
                const Tensor& dy = backward.output_gradient();
                const Tensor dkbar = rows_like(backward.execution(), dy, rows);
                dispatch<FinishedKeyMeanBackward>({.grid = grid, .dy_NC = dy, .dkbar_MC = dkbar},
                                                  backward.execution());
                backward.accumulate(0, dkbar, placements);
              });
  return output;
}

Variable head_gate(Tape& tape, const Variable& a, const Variable& b) {
  check_alike("head gate", a, b);
  check_split("head gate", a);
  ExecutionContext& execution = tape.execution();
  const DType dtype = a.value().dtype();
  const Tensor s = execution.empty(a.shape(), accumulation_dtype(dtype), MemoryUse::activations);
  dispatch<HeadGateForward>({.a_NH = a.value(), .b_NH = b.value(), .s_NH = s}, execution);
  Variable output = tape.output(s, a.placements(), std::array{a, b});
  tape.record(
      "head_gate", {a, b}, {output},
      [s, dtype, placements = a.placements().gradient()](const BackwardContext& backward) {
        const Tensor d = backward.execution().empty(s.shape(), dtype, MemoryUse::activations);
        dispatch<HeadGateBackward>({.s_NH = s, .ds_NH = backward.output_gradient(), .d_NH = d},
                                   backward.execution());
        if (backward.needs(0)) backward.accumulate(0, d, placements);
        if (backward.needs(1)) backward.accumulate(1, d, placements);
      });
  return output;
}

Variable scale_heads(Tape& tape, const Variable& o, const Variable& s, const Tensor& dense_heads,
                     const BlockGrid& grid) {
  check_alike("scale heads", o, s);
  check_split("scale heads", o);
  ExecutionContext& execution = tape.execution();
  const Tensor o_value = o.value(), s_value = s.value();
  const Tensor y = like(execution, o_value);
  dispatch<ScaleHeads>(
      {.grid = grid, .o_THK = o_value, .s_NH = s_value, .dense_heads_H = dense_heads, .y_THK = y},
      execution);
  Variable output = tape.output(y, o.placements(), std::array{o, s});
  tape.record("scale_heads", {o, s}, {output},
              [grid, o_value, s_value, dense_heads,
               placements = o.placements().gradient()](const BackwardContext& backward) {
                ExecutionContext& execution = backward.execution();
                const Tensor d_o = like(execution, o_value), ds = like(execution, s_value);
                dispatch<ScaleHeadsBackward>({.grid = grid,
                                              .o_THK = o_value,
                                              .s_NH = s_value,
                                              .dense_heads_H = dense_heads,
                                              .dy_THK = backward.output_gradient(),
                                              .do_THK = d_o,
                                              .ds_NH = ds},
                                             execution);
                if (backward.needs(0)) backward.accumulate(0, d_o, placements);
                if (backward.needs(1)) backward.accumulate(1, ds, placements);
              });
  return output;
}

DistillTerm distill_loss(Tape& tape, const Variable& z, const GateTeacher& teacher,
                         const BlockGrid& grid) {
  check_split("distill loss", z);
  Placements placements;
  for (const Axis axis : kAxes)
    if (z.placements()[axis].is_sharded()) placements = placements.with(axis, Placement::partial());
  ExecutionContext& execution = tape.execution();
  const Tensor z_value = z.value();
  const Tensor loss = execution.empty({}, z_value.dtype()), total = like(execution, loss);
  dispatch<DistillLoss>({.grid = grid,
                         .z_BHNM = z_value,
                         .groups_R = teacher.groups_R,
                         .teacher_BHRM = teacher.teacher_BHRM,
                         .weight_BHR = teacher.weight_BHR,
                         .loss = loss,
                         .total = total},
                        execution);
  Variable output = tape.output(loss, placements, std::array{z});
  tape.record("distill_loss", {z}, {output},
              [grid, z_value, teacher, total,
               placements = z.placements().gradient()](const BackwardContext& backward) {
                const auto dz = backward.target(0, placements);
                dispatch<DistillLossGradient>({.grid = grid,
                                               .z_BHNM = z_value,
                                               .groups_R = teacher.groups_R,
                                               .teacher_BHRM = teacher.teacher_BHRM,
                                               .weight_BHR = teacher.weight_BHR,
                                               .dloss = backward.output_gradient(),
                                               .total = total,
                                               .dz_BHNM = dz.gradient,
                                               .accumulate = dz.accumulate},
                                              backward.execution());
              });
  return {output, total};
}

void give_zero_gradient(Tape& tape, const Variable& parameter) {
  const Variable nothing =
      tape.output(tape.execution().zeros({}, DType::f32), {}, std::array{parameter});
  tape.record("zero_gradient", {parameter}, {nothing},
              [placements = parameter.placements().gradient()](const BackwardContext& backward) {
                const auto gradient = backward.target(0, placements);
                if (!gradient.accumulate) backward.execution().zero(gradient.gradient);
              });
  tape.add_objective(nothing, tape.execution().zeros({}, DType::f32));
}

}  // namespace filigree
