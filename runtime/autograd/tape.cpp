#include "runtime/autograd/tape.hpp"

#include <algorithm>
#include <utility>

#include "kernels/elementwise/elementwise.hpp"
#include "runtime/autograd/slot.hpp"

namespace filigree {

struct BackwardContext::Node {
  std::string op;
  std::vector<Variable> inputs;  // values dropped: only their slots matter here
  std::vector<Variable> outputs;
  Tape::Backward backward;
};

namespace {

// target += source, elementwise, in the target's precision.
void add_to(const Tensor& target, const Tensor& source, ExecutionContext& execution) {
  FILIGREE_CHECK_EQ(target.shape(), source.shape(), "gradient contributions");
  FILIGREE_CHECK(size_of(source.dtype()) <= size_of(target.dtype()), "cannot add a ",
                 name_of(source.dtype()), " gradient to a ", name_of(target.dtype()), " one");
  dispatch<Scale>({.x = source, .y = target, .accumulate = true}, execution);
}

}  // namespace

ExecutionContext& BackwardContext::execution() const { return tape_.execution_; }

const Tensor& BackwardContext::output_gradient(std::size_t i) const {
  return node_.outputs.at(i).slot_->gradient;
}

bool BackwardContext::needs(std::size_t input) const {
  return node_.inputs.at(input).requires_gradient();
}

BackwardContext::Target BackwardContext::target(std::size_t input,
                                                const Placements& placements) const {
  Variable::Slot& slot = *node_.inputs.at(input).slot_;
  FILIGREE_CHECK(slot.requires_gradient, node_.op, ": input ", input, " needs no gradient");
  const Placements& expected =
      slot.gradient_placements ? *slot.gradient_placements : slot.placements.gradient();
  // A parameter's first contribution may arrive less distributed than the dual of its placements (a
  // weight that is replicated by storage but used for the same work everywhere): it is recorded as
  // it comes.
  if (!slot.is_parameter || slot.gradient_placements)
    FILIGREE_CHECK(placements == expected, node_.op, ": gradient of input ", input, " ", slot.name,
                   " is placed ", placements, ", expected ", expected);
  slot.gradient_placements = placements;
  const bool accumulate = slot.has_gradient;
  if (!slot.gradient.defined())
    slot.gradient =
        tape_.execution_.empty(slot.shape, slot.gradient_dtype,
                               slot.is_parameter ? MemoryUse::gradients : MemoryUse::activations);
  if (accumulate && slot.gradient_is_shared) {
    slot.gradient = tape_.execution_.clone(slot.gradient, MemoryUse::activations);
    slot.gradient_is_shared = false;
  }
  slot.has_gradient = true;
  return {slot.gradient, accumulate};
}

void BackwardContext::accumulate(std::size_t input, Tensor gradient,
                                 const Placements& placements) const {
  Variable::Slot& slot = *node_.inputs.at(input).slot_;
  FILIGREE_CHECK_EQ(gradient.shape(), slot.shape, node_.op, ": gradient of input ", input);
  if (!slot.is_parameter && !slot.has_gradient && gradient.dtype() == slot.gradient_dtype) {
    slot.gradient = std::move(gradient);
    slot.gradient_is_shared = true;
    target(input, placements);
    return;
  }
  const Target into = target(input, placements);
  if (!into.accumulate) tape_.execution_.zero(into.gradient);
  add_to(into.gradient, gradient, tape_.execution_);
}

Tape::Tape(ExecutionContext& execution, Mode mode) : execution_(execution), mode_(mode) {}
Tape::~Tape() = default;

Variable Tape::output(Tensor value, const Placements& placements,
                      std::span<const Variable> inputs) const {
  const bool requires_gradient =
      recording() && std::any_of(inputs.begin(), inputs.end(),
                                 [](const Variable& v) { return v.requires_gradient(); });
  return Variable(std::move(value), placements, requires_gradient);
}

void Tape::record(std::string_view op, std::vector<Variable> inputs, std::vector<Variable> outputs,
                  Backward backward) {
  if (!recording()) return;
  if (std::none_of(outputs.begin(), outputs.end(),
                   [](const Variable& v) { return v.requires_gradient(); }))
    return;
  if (probing_) {
    for (const Variable& input : inputs)
      if (input.is_parameter() && std::none_of(probed_.begin(), probed_.end(),
                                               [&](const Variable& v) { return v.same_as(input); }))
        probed_.push_back(input);
    return;
  }
  // Only the slots are needed from here on: values that backward wants are captured by `backward`.
  for (Variable& v : inputs)
    if (!v.is_parameter()) v.value_ = Tensor();
  for (Variable& v : outputs) v.value_ = Tensor();
  nodes_.push_back({std::string(op), std::move(inputs), std::move(outputs), std::move(backward)});
  count_uses(nodes_.back(), +1);
}

void Tape::count_uses(const BackwardContext::Node& node, int change) {
  for (const Variable& input : node.inputs) {
    if (!input.is_parameter()) continue;
    int& uses = pending_[input.id()];
    uses += change;
    if (change < 0 && uses == 0 && ready_) ready_(input);
  }
}

void Tape::run(BackwardContext::Node& node) {
  const bool reached = std::any_of(node.outputs.begin(), node.outputs.end(),
                                   [](const Variable& v) { return v.slot_->has_gradient; });
  if (reached) {
    ErrorContext frame(str("backward of ", node.op));
    node.backward(BackwardContext(*this, node));
  }
  node.backward = nullptr;
  for (const Variable& output : node.outputs) output.clear_gradient();
  count_uses(node, -1);
}

void Tape::add_objective(const Variable& objective, Tensor seed) {
  if (recording() && !probing_ && objective.requires_gradient())
    objectives_.push_back({objective, std::move(seed)});
}

void Tape::seed(const Variable& output, Tensor gradient) {
  FILIGREE_CHECK_EQ(gradient.shape(), output.shape(), "seed of backward");
  output.slot_->gradient = std::move(gradient);
  output.slot_->gradient_is_shared = true;
  output.slot_->has_gradient = true;
  output.slot_->gradient_placements = output.placements().gradient();
}

void Tape::backward(const Variable& output, Tensor seed) {
  FILIGREE_CHECK(recording(), "backward on an inference tape");
  FILIGREE_CHECK(output.requires_gradient() || !objectives_.empty(),
                 "backward from a variable that depends on no parameter");
  if (output.requires_gradient()) this->seed(output, std::move(seed));
  for (Objective& objective : std::exchange(objectives_, {}))
    this->seed(objective.variable, std::move(objective.seed));
  while (!nodes_.empty()) {
    BackwardContext::Node node = std::move(nodes_.back());
    nodes_.pop_back();
    run(node);
  }
  pending_.clear();
}

Variable recompute(Tape& tape, std::function<Variable(Tape&, std::span<const Variable>)> function,
                   std::vector<Variable> inputs) {
  if (!tape.recording() || tape.probing_) return function(tape, inputs);
  Tape probe(tape.execution_);
  probe.probing_ = true;
  const Variable result = function(probe, inputs);
  // What goes on from here is a constant, but auxiliary objectives may have met parameters inside:
  // they are recorded as they are, since nothing will ask for the region again.
  if (!result.requires_gradient()) return probe.probed_.empty() ? result : function(tape, inputs);

  std::vector<Variable> recorded = inputs;
  recorded.insert(recorded.end(), probe.probed_.begin(), probe.probed_.end());
  Variable output = tape.output(result.value(), result.placements(), recorded);
  tape.record(
      "recompute", recorded, {output},
      [function = std::move(function), inputs = std::move(inputs)](const BackwardContext& context) {
        Tape inner(context.execution());
        std::vector<Variable> copies;
        for (const Variable& input : inputs) copies.push_back(input.detached());
        const Variable again = function(inner, copies);
        inner.backward(again, context.output_gradient());
        for (std::size_t i = 0; i < copies.size(); ++i)
          if (copies[i].gradient().defined())
            context.accumulate(i, copies[i].gradient(), *copies[i].gradient_placements());
      });
  return output;
}

}  // namespace filigree
