// Differentiable functions: each runs its kernels, records its backward, and states how it treats
// placements.
//
// Tensors are token-major, [T, features] with T = batch * length. On every axis the placements of
// the inputs must be one of the combinations named below; anything else is an InternalError that
// says which transition is missing. A gradient is placed as the dual of its value; a weight's
// gradient as the combination implies.
#pragma once

#include "kernels/attention/attention.hpp"
#include "kernels/rope/rotary_frequencies.hpp"
#include "runtime/autograd/tape.hpp"

namespace filigree {

// y[T,O] = x[T,I] w[O,I]^T. Per axis:
//   x invariant,  w invariant   -> y invariant     dw invariant
//   x sharded(0), w replicated  -> y sharded(0)    dw partial
//   x replicated, w sharded(0)  -> y sharded(1)    dw sharded(0)     (column-parallel)
//   x sharded(1), w sharded(1)  -> y partial       dw sharded(1)     (row-parallel)
Variable linear(Tape& tape, const Variable& x_TI, const Variable& w_OI);

// The same with rows [first_row, first_row + rows) of w only, plus the same elements of the bias
// b[O] where one is defined. Also allows, per axis,
//   x replicated, w replicated  -> y sharded(1)    dw partial
// where each rank takes its own rows of a weight that all hold: key/value groups shared by several
// ranks. Of the bias:
//   y invariant,  b invariant   -> db invariant
//   y sharded(0), b replicated  -> db partial
//   y sharded(1), b sharded(0)  -> db sharded(0)
//   y sharded(1), b replicated  -> db partial       (own elements of what all hold)
Variable linear_rows(Tape& tape, const Variable& x_TI, const Variable& w_OI, std::int64_t first_row,
                     std::int64_t rows, const Variable& b_O = {});

// x[t,:] + b[first, first + O), x: [T, O]: the bias of a layer whose product is scaled before it.
// y is placed as x, db as linear_rows has it.
Variable add_bias(Tape& tape, const Variable& x_TO, const Variable& b, std::int64_t first = 0);

// y[t,:] = w[id[t] - first_row, :], zeros for rows held elsewhere. ids: a constant, i32 [T]. Per
// axis:
//   ids invariant,  w invariant  -> y invariant    dw invariant
//   ids sharded(0), w replicated -> y sharded(0)   dw partial
//   ids invariant,  w sharded(0) -> y partial      dw sharded(0)     (vocabulary-parallel)
Variable embedding(Tape& tape, const Variable& ids_T, const Variable& w_VD, std::int64_t first_row);

// Per axis: x invariant, w invariant -> invariant, dw invariant; x sharded(0), w replicated ->
// sharded(0), dw partial.
Variable rms_norm(Tape& tape, const Variable& x_TD, const Variable& w_D, double eps);

// RMS normalisation of every head, with one weight [K] for all of them (x: [T, H*K]). Per axis,
// those of rms_norm and x sharded(1), w replicated -> sharded(1), dw partial.
Variable head_rms_norm(Tape& tape, const Variable& x_THK, const Variable& w_K, double eps);

// Element-wise in the features or rows: y is placed as the inputs, which must agree and be no
// partial.
Variable rope(Tape& tape, const Variable& x_THK, const Tensor& positions_T, std::int64_t head_dim,
              const RotaryFrequencies& frequencies);
Variable swiglu(Tape& tape, const Variable& gate_TF, const Variable& up_TF);
// y = x * sigmoid(gate).
Variable sigmoid_gate(Tape& tape, const Variable& x_TF, const Variable& gate_TF);
Variable add(Tape& tape, const Variable& a, const Variable& b);

// A no-op at rate 0. first_row: the global index of x's first row; stream: i64 [1], distinct for
// every use in a step.
Variable dropout(Tape& tape, const Variable& x_TD, double rate, std::uint64_t seed,
                 const Tensor& stream, std::int64_t first_row);

// o = softmax(scale q k^T + bias) v per head, over the keys that the pattern lets each query read;
// q, k, v, o and bias placed alike (no partial, no replicated). bias: [B,H,N,J] beside the
// pattern's lists, or undefined; the pattern's own bias must be undefined.
Variable attention(Tape& tape, const Variable& q_THK, const Variable& k_TGK, const Variable& v_TGK,
                   const AttentionShape& shape, AttentionPattern pattern = {},
                   const Variable& bias_BHNJ = {});

}  // namespace filigree
