// Differentiable functions of a block gate: from queries and keys to scores of key blocks, from
// scores to a bias of the logits or to a distillation loss. The kernels' headers have the formulas.
//
// Everything is split by sequences (dim 0) or by heads (dim 1), and a result is placed as its
// activation input: rows [T, heads * width] and scores [B, H, N, M] alike. None takes a partial.
#pragma once

#include "kernels/attention/block_lists.hpp"
#include "kernels/gate/block_grid.hpp"
#include "runtime/autograd/tape.hpp"

namespace filigree {

// Of every block of key_block tokens: the mean, [B*S, C] -> [B*M, C]; maximum, minimum and mean of
// every head, [B*S, G*K] -> [B*M, G*3K].
Variable block_mean_keys(Tape& tape, const Variable& k_TC, std::int64_t batch,
                         std::int64_t key_block);
Variable block_max_min_mean_keys(Tape& tape, const Variable& k_TGK, std::int64_t batch,
                                 std::int64_t key_block, std::int64_t kv_heads);

// [B*S, C] -> [B*N, C]: the first token of every group of query_group tokens.
Variable group_queries(Tape& tape, const Variable& q_TC, std::int64_t batch,
                       std::int64_t query_group);

// [B*S, C] -> [B*N, C]: the mean of every group, for a gate that is trained alone: the input must
// not ask for gradients.
Variable group_mean_queries(Tape& tape, const Variable& q_TC, std::int64_t batch,
                            std::int64_t query_group, const Tensor& document_begin_T);

// [T, Hx*K] x [H*E, K] -> [T, H*E]: a linear map per head; Hx input heads serve H / Hx heads each.
// Per axis:
//   x invariant,  w invariant  -> y invariant   dw invariant
//   x sharded(0), w replicated -> y sharded(0)  dw partial
//   x sharded(1), w sharded(0) -> y sharded(1)  dw sharded(0)     (heads)
Variable head_projection(Tape& tape, const Variable& x_THK, const Variable& w_HEK,
                         std::int64_t heads, std::int64_t input_heads);

// qg [B*N, H*E], kg [B*M, H*E] -> scores [B, H, N, M] in the accumulation dtype, -infinity where
// the block is no candidate of the group.
Variable gate_scores(Tape& tape, const Variable& qg_NHE, const Variable& kg_MHE,
                     const BlockGrid& grid, double scale);

// Scores -> bias [B, H, N, J] of the listed blocks' logits, `strength` times their log share; the
// lists are constants. dense_heads: u8 [H] or undefined.
Variable soft_gate_bias(Tape& tape, const Variable& z_BHNM, const BlockLists& lists,
                        const Tensor& dense_heads_H, const BlockGrid& grid, double strength = 1.0);

// kbar [B*M, C] -> [B*N, C]: the mean over the blocks that are finished before a group.
Variable finished_key_mean(Tape& tape, const Variable& kbar_MC, const BlockGrid& grid);

// sigmoid(a + b), [B*N, H], in the accumulation dtype.
Variable head_gate(Tape& tape, const Variable& a_NH, const Variable& b_NH);

// Every head of o [B*Sq, H*K] times its group's s [B*N, H]; dense heads as they are.
Variable scale_heads(Tape& tape, const Variable& o_THK, const Variable& s_NH,
                     const Tensor& dense_heads_H, const BlockGrid& grid);

// What a gate is compared with: see BlockMassTeacher.
struct GateTeacher {
  Tensor groups_R, teacher_BHRM, weight_BHR;
};

// The mean over the teaching rows of this rank, and their number (one element of the same dtype).
// The loss times the number is partial on every axis on which scores are split; so the placement
// of the loss says, and who seeds it multiplies the number in.
struct DistillTerm {
  Variable loss;
  Tensor total;
};
DistillTerm distill_loss(Tape& tape, const Variable& z_BHNM, const GateTeacher& teacher,
                         const BlockGrid& grid);

// A parameter that takes no part in what is computed: its gradient becomes zero instead of staying
// absent, which a job of several ranks takes for a mistake.
void give_zero_gradient(Tape& tape, const Variable& parameter);

}  // namespace filigree
