#include <array>

#include "kernels/elementwise/fill.hpp"
#include "kernels/matmul/matmul.hpp"
#include "layers/functional/functional.hpp"

namespace filigree {
namespace {

struct LinearPlacements {
  Placements y, dw;
};

// The table in functional.hpp.
LinearPlacements infer(const Placements& x, const Placements& w, bool takes_own_rows) {
  LinearPlacements result;
  for (const Axis axis : kAxes) {
    const Placement px = x[axis], pw = w[axis];
    Placement y, dw;
    if (px.is_invariant() && pw.is_invariant()) {
      y = dw = Placement::invariant();
    } else if (px.is_sharded(0) && pw.is_replicated()) {
      y = Placement::sharded(0);
      dw = Placement::partial();
    } else if (px.is_replicated() && pw.is_sharded(0)) {
      y = Placement::sharded(1);
      dw = Placement::sharded(0);
    } else if (px.is_sharded(1) && pw.is_sharded(1)) {
      y = Placement::partial();
      dw = Placement::sharded(1);
    } else {
      FILIGREE_CHECK(takes_own_rows && px.is_replicated() && pw.is_replicated(), "linear: on the ",
                     name_of(axis), " axis x is ", px, " and w is ", pw,
                     "; a transition is missing");
      y = Placement::sharded(1);
      dw = Placement::partial();
    }
    result.y = result.y.with(axis, y);
    result.dw = result.dw.with(axis, dw);
  }
  return result;
}

}  // namespace

Variable linear_rows(Tape& tape, const Variable& x, const Variable& w, std::int64_t first_row,
                     std::int64_t rows) {
  ExecutionContext& execution = tape.execution();
  const LinearPlacements placements = infer(x.placements(), w.placements(), rows != w.shape()[0]);
  const Tensor x_value = x.value(), w_value = w.value().rows(first_row, first_row + rows);
  Tensor y = execution.empty({x.shape()[0], rows}, x_value.dtype(), MemoryUse::activations);
  dispatch<Matmul>({.a = x_value, .b = w_value, .c = y, .transpose_b = true}, execution);

  Variable output = tape.output(std::move(y), placements.y, std::array{x, w});
  tape.record("linear", {x, w}, {output},
              [x_value, w_value, first_row, rows, dx_placements = x.placements().gradient(),
               dw_placements = placements.dw](const BackwardContext& backward) {
                const Tensor& dy = backward.output_gradient();
                if (backward.needs(0)) {
                  const auto dx = backward.target(0, dx_placements);
                  dispatch<Matmul>(
                      {.a = dy, .b = w_value, .c = dx.gradient, .accumulate = dx.accumulate},
                      backward.execution());
                }
                if (backward.needs(1)) {
                  const auto dw = backward.target(1, dw_placements);
                  const bool whole = rows == dw.gradient.dim(0);
                  if (!whole && !dw.accumulate) backward.execution().zero(dw.gradient);
                  dispatch<Matmul>({.a = dy,
                                    .b = x_value,
                                    .c = dw.gradient.rows(first_row, first_row + rows),
                                    .transpose_a = true,
                                    .accumulate = dw.accumulate || !whole},
                                   backward.execution());
                }
              });
  return output;
}

namespace {

Placements bias_gradient_placements(const Placements& x, const Placements& b) {
  Placements db;
  for (const Axis axis : kAxes) {
    const Placement px = x[axis], pb = b[axis];
    if (px.is_invariant() && pb.is_invariant()) continue;
    const bool own = px.is_sharded(1) && pb.is_sharded(0);
    const bool shared = pb.is_replicated() && (px.is_sharded(0) || px.is_sharded(1));
    FILIGREE_CHECK(own || shared, "add_bias: on the ", name_of(axis), " axis x is ", px,
                   " and b is ", pb);
    db = db.with(axis, own ? Placement::sharded(0) : Placement::partial());
  }
  return db;
}

// [1, count] of ones: what a sum over tokens and its transpose are products with.
Tensor ones(ExecutionContext& execution, std::int64_t count, DType dtype) {
  const Tensor one = execution.upload(Tensor::from<float>({}, std::array{1.0f}).to(dtype));
  const Tensor row = execution.empty({1, count}, dtype);
  dispatch<Fill>({.value = one, .y = row}, execution);
  return row;
}

}  // namespace

Variable add_bias(Tape& tape, const Variable& x, const Variable& b, std::int64_t first) {
  ExecutionContext& execution = tape.execution();
  const std::int64_t tokens = x.shape()[0], outputs = x.shape()[1];
  const Tensor bias = b.value().flat(first, {1, outputs});
  Tensor y = execution.clone(x.value(), MemoryUse::activations);
  dispatch<Matmul>({.a = ones(execution, tokens, y.dtype()),
                    .b = bias,
                    .c = y,
                    .transpose_a = true,
                    .accumulate = true},
                   execution);
  Variable output = tape.output(std::move(y), x.placements(), std::array{x, b});
  tape.record("add_bias", {x, b}, {output},
              [tokens, outputs, first, dx_placements = x.placements().gradient(),
               db_placements = bias_gradient_placements(x.placements(), b.placements())](
                  const BackwardContext& backward) {
                ExecutionContext& execution = backward.execution();
                const Tensor& dy = backward.output_gradient();
                if (backward.needs(1)) {
                  const auto db = backward.target(1, db_placements);
                  const bool whole = outputs == db.gradient.numel();
                  if (!whole && !db.accumulate) execution.zero(db.gradient);
                  dispatch<Matmul>({.a = ones(execution, tokens, dy.dtype()),
                                    .b = dy,
                                    .c = db.gradient.flat(first, {1, outputs}),
                                    .accumulate = db.accumulate || !whole},
                                   execution);
                }
                if (backward.needs(0)) backward.accumulate(0, dy, dx_placements);
              });
  return output;
}

Variable linear(Tape& tape, const Variable& x, const Variable& w) {
  return linear_rows(tape, x, w, 0, w.shape()[0]);
}

}  // namespace filigree
