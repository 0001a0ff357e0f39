#include <array>
#include <optional>
#include <vector>

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

Placements bias_gradient_placements(const Placements& y, const Placements& b) {
  Placements db;
  for (const Axis axis : kAxes) {
    const Placement py = y[axis], pb = b[axis];
    if (py.is_invariant() && pb.is_invariant()) continue;
    const bool own = py.is_sharded(1) && pb.is_sharded(0);
    const bool shared = pb.is_replicated() && (py.is_sharded(0) || py.is_sharded(1));
    FILIGREE_CHECK(own || shared, "bias: on the ", name_of(axis), " axis y is ", py, " and b is ",
                   pb);
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

// Where the gradient of an input goes of which an op took `elements`: what it did not take gets
// zeros, unless something is there.
BackwardContext::Target target_of_part(const BackwardContext& backward, std::size_t input,
                                       const Placements& placements, std::int64_t elements) {
  BackwardContext::Target target = backward.target(input, placements);
  const bool whole = elements == target.gradient.numel();
  if (!whole && !target.accumulate) backward.execution().zero(target.gradient);
  target.accumulate = target.accumulate || !whole;
  return target;
}

// db[first + o] += sum_t dy[t,o]
void add_bias_gradient(const BackwardContext& backward, std::size_t input, std::int64_t first,
                       const Placements& placements) {
  const Tensor& dy = backward.output_gradient();
  const std::int64_t tokens = dy.dim(0), outputs = dy.dim(1);
  const auto db = target_of_part(backward, input, placements, outputs);
  dispatch<Matmul>({.a = ones(backward.execution(), tokens, dy.dtype()),
                    .b = dy,
                    .c = db.gradient.flat(first, {1, outputs}),
                    .accumulate = db.accumulate},
                   backward.execution());
}

// What the backward of y = x w[first_row, first_row + rows)^T + b needs.
struct SavedLinear {
  Tensor x, w;  // the rows taken
  std::int64_t first_row;
  Placements dx_placements, dw_placements;
  std::optional<Placements> db_placements;  // of a layer with a bias

  void add_gradients(const BackwardContext& backward) const {
    if (backward.needs(0)) add_input_gradient(backward);
    if (backward.needs(1)) add_weight_gradient(backward);
    if (db_placements && backward.needs(2))
      add_bias_gradient(backward, 2, first_row, *db_placements);
  }

 private:
  // dx = dy w
  void add_input_gradient(const BackwardContext& backward) const {
    const auto dx = backward.target(0, dx_placements);
    dispatch<Matmul>(
        {.a = backward.output_gradient(), .b = w, .c = dx.gradient, .accumulate = dx.accumulate},
        backward.execution());
  }
  // dw = dy^T x
  void add_weight_gradient(const BackwardContext& backward) const {
    const auto dw = target_of_part(backward, 1, dw_placements, w.numel());
    dispatch<Matmul>({.a = backward.output_gradient(),
                      .b = x,
                      .c = dw.gradient.rows(first_row, first_row + w.dim(0)),
                      .transpose_a = true,
                      .accumulate = dw.accumulate},
                     backward.execution());
  }
};

}  // namespace

Variable linear_rows(Tape& tape, const Variable& x, const Variable& w, std::int64_t first_row,
                     std::int64_t rows, const Variable& bias) {
  const LinearPlacements placements = infer(x.placements(), w.placements(), rows != w.shape()[0]);
  SavedLinear saved = {.x = x.value(),
                       .w = w.value().rows(first_row, first_row + rows),
                       .first_row = first_row,
                       .dx_placements = x.placements().gradient(),
                       .dw_placements = placements.dw,
                       .db_placements = {}};
  std::vector<Variable> inputs = {x, w};
  Tensor own_bias;
  if (bias.defined()) {
    saved.db_placements = bias_gradient_placements(placements.y, bias.placements());
    own_bias = bias.value().flat(first_row, {rows});
    inputs.push_back(bias);
  }
  Tensor y = tape.execution().empty({x.shape()[0], rows}, saved.x.dtype(), MemoryUse::activations);
  dispatch<Matmul>({.a = saved.x, .b = saved.w, .c = y, .transpose_b = true, .bias = own_bias},
                   tape.execution());
  Variable output = tape.output(std::move(y), placements.y, inputs);
  tape.record("linear", std::move(inputs), {output},
              [saved = std::move(saved)](const BackwardContext& backward) {
                saved.add_gradients(backward);
              });
  return output;
}

Variable add_bias(Tape& tape, const Variable& x, const Variable& b, std::int64_t first) {
  ExecutionContext& execution = tape.execution();
  const std::int64_t tokens = x.shape()[0], outputs = x.shape()[1];
  const Placements db_placements = bias_gradient_placements(x.placements(), b.placements());
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
              [first, dx_placements = x.placements().gradient(),
               db_placements](const BackwardContext& backward) {
                if (backward.needs(1)) add_bias_gradient(backward, 1, first, db_placements);
                if (backward.needs(0))
                  backward.accumulate(0, backward.output_gradient(), dx_placements);
              });
  return output;
}

Variable linear(Tape& tape, const Variable& x, const Variable& w) {
  return linear_rows(tape, x, w, 0, w.shape()[0]);
}

}  // namespace filigree
