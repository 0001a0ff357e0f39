#include "kernels/elementwise/elementwise.hpp"

#include "kernels/activation/sigmoid_gate.hpp"
#include "kernels/activation/swiglu.hpp"
#include "kernels/rope/rope.hpp"
#include "layers/functional/functional.hpp"

namespace filigree {
namespace {

void check_alike(const char* op, const Variable& a, const Variable& b) {
  FILIGREE_CHECK(a.placements() == b.placements(), op, ": ", a.placements(), " and ",
                 b.placements(), " differ");
}

void check_not_partial(const char* op, const Variable& x) {
  for (const Axis axis : kAxes)
    FILIGREE_CHECK(!x.placements()[axis].is_partial(), op,
                   ": is not linear, but x is partial on the ", name_of(axis), " axis");
}

Tensor like(ExecutionContext& execution, const Tensor& x) {
  return execution.empty(x.shape(), x.dtype(), MemoryUse::activations);
}

}  // namespace

Variable rope(Tape& tape, const Variable& x, const Tensor& positions, std::int64_t head_dim,
              const RotaryFrequencies& frequencies) {
  ExecutionContext& execution = tape.execution();
  Tensor y = like(execution, x.value());
  dispatch<Rope>({.x_THK = x.value(),
                  .positions_T = positions,
                  .y_THK = y,
                  .head_dim = head_dim,
                  .frequencies = frequencies},
                 execution);
  Variable output = tape.output(std::move(y), x.placements(), std::array{x});
  tape.record("rope", {x}, {output},
              [positions, head_dim, frequencies,
               placements = x.placements().gradient()](const BackwardContext& backward) {
                const Tensor& dy = backward.output_gradient();
                const Tensor dx = like(backward.execution(), dy);
                dispatch<Rope>({.x_THK = dy,
                                .positions_T = positions,
                                .y_THK = dx,
                                .head_dim = head_dim,
                                .frequencies = frequencies,
                                .inverse = true},
                               backward.execution());
                backward.accumulate(0, dx, placements);
              });
  return output;
}

Variable swiglu(Tape& tape, const Variable& gate, const Variable& up) {
  check_alike("swiglu", gate, up);
  check_not_partial("swiglu", gate);
  ExecutionContext& execution = tape.execution();
  const Tensor gate_value = gate.value(), up_value = up.value();
  Tensor y = like(execution, gate_value);
  dispatch<SwigluForward>({.gate_TF = gate_value, .up_TF = up_value, .y_TF = y}, execution);
  Variable output = tape.output(std::move(y), gate.placements(), std::array{gate, up});
  tape.record("swiglu", {gate, up}, {output},
              [gate_value, up_value,
               placements = gate.placements().gradient()](const BackwardContext& backward) {
                ExecutionContext& execution = backward.execution();
                const Tensor dgate = like(execution, gate_value), dup = like(execution, up_value);
                dispatch<SwigluBackward>({.gate_TF = gate_value,
                                          .up_TF = up_value,
                                          .dy_TF = backward.output_gradient(),
                                          .dgate_TF = dgate,
                                          .dup_TF = dup},
                                         execution);
                if (backward.needs(0)) backward.accumulate(0, dgate, placements);
                if (backward.needs(1)) backward.accumulate(1, dup, placements);
              });
  return output;
}

Variable sigmoid_gate(Tape& tape, const Variable& x, const Variable& gate) {
  check_alike("sigmoid_gate", x, gate);
  check_not_partial("sigmoid_gate", x);
  ExecutionContext& execution = tape.execution();
  const Tensor x_value = x.value(), gate_value = gate.value();
  Tensor y = like(execution, x_value);
  dispatch<SigmoidGateForward>({.x_TF = x_value, .gate_TF = gate_value, .y_TF = y}, execution);
  Variable output = tape.output(std::move(y), x.placements(), std::array{x, gate});
  tape.record("sigmoid_gate", {x, gate}, {output},
              [x_value, gate_value,
               placements = x.placements().gradient()](const BackwardContext& backward) {
                ExecutionContext& execution = backward.execution();
                const Tensor dx = like(execution, x_value), dgate = like(execution, gate_value);
                dispatch<SigmoidGateBackward>({.x_TF = x_value,
                                               .gate_TF = gate_value,
                                               .dy_TF = backward.output_gradient(),
                                               .dx_TF = dx,
                                               .dgate_TF = dgate},
                                              execution);
                if (backward.needs(0)) backward.accumulate(0, dx, placements);
                if (backward.needs(1)) backward.accumulate(1, dgate, placements);
              });
  return output;
}

Variable add(Tape& tape, const Variable& a, const Variable& b) {
  check_alike("add", a, b);
  ExecutionContext& execution = tape.execution();
  Tensor y = like(execution, a.value());
  dispatch<Add>({.a = a.value(), .b = b.value(), .y = y}, execution);
  Variable output = tape.output(std::move(y), a.placements(), std::array{a, b});
  tape.record("add", {a, b}, {output},
              [placements = a.placements().gradient()](const BackwardContext& backward) {
                // The two inputs share the output's gradient until one of them receives a second
                // contribution: accumulate may take a tensor over, so only one input may get it
                // without a copy.
                const Tensor& dy = backward.output_gradient();
                const bool both = backward.needs(0) && backward.needs(1);
                if (backward.needs(0)) backward.accumulate(0, dy, placements);
                if (backward.needs(1))
                  backward.accumulate(
                      1, both ? backward.execution().clone(dy, MemoryUse::activations) : dy,
                      placements);
              });
  return output;
}

Variable dropout(Tape& tape, const Variable& x, double rate, std::uint64_t seed,
                 const Tensor& stream, std::int64_t first_row) {
  if (rate == 0.0) return x;
  check_not_partial("dropout", x);
  ExecutionContext& execution = tape.execution();
  const auto masked = [=](const Tensor& in, ExecutionContext& context) {
    Tensor out = like(context, in);
    dispatch<Dropout>({.x_TD = in,
                       .y_TD = out,
                       .rate = rate,
                       .seed = seed,
                       .stream = stream,
                       .first_row = first_row},
                      context);
    return out;
  };
  Variable output = tape.output(masked(x.value(), execution), x.placements(), std::array{x});
  tape.record("dropout", {x}, {output},
              [masked, placements = x.placements().gradient()](const BackwardContext& backward) {
                backward.accumulate(0, masked(backward.output_gradient(), backward.execution()),
                                    placements);
              });
  return output;
}

}  // namespace filigree
