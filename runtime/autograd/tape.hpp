// Tape: reverse-mode differentiation over coarse ops (a whole attention, a whole norm).
#pragma once

#include <functional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "runtime/autograd/variable.hpp"
#include "runtime/core/execution.hpp"

namespace filigree {

class Tape;

// Handed to an op's backward. Inputs and outputs are numbered as in Tape::record.
class BackwardContext {
 public:
  ExecutionContext& execution() const;

  // The gradient of output i, placed as the gradient of that output's placements; undefined when
  // nothing depends on it (possible only for ops with several outputs). Read only: another variable
  // may share it.
  const Tensor& output_gradient(std::size_t i = 0) const;

  bool needs(std::size_t input) const;  // whether input i wants a gradient

  // Adds `gradient` to input i's. Takes it over without a copy where it is the first contribution:
  // the caller may hand the same tensor to several inputs, but must not write to it afterwards.
  // `placements` says how the contribution is distributed; an activation's must be the dual of its
  // value's, a parameter's is recorded and tells the reducer what is left to sum.
  void accumulate(std::size_t input, Tensor gradient, const Placements& placements) const;

  // The same without a temporary: where to write, and whether to add to what is there or overwrite
  // it.
  struct Target {
    Tensor gradient;
    bool accumulate;
  };
  Target target(std::size_t input, const Placements& placements) const;

 private:
  friend class Tape;
  struct Node;
  BackwardContext(Tape& tape, Node& node) : tape_(tape), node_(node) {}
  Tape& tape_;
  Node& node_;
};

class Tape {
 public:
  using Backward = std::function<void(const BackwardContext&)>;
  // recording: keep what backward needs. Otherwise ops only compute (inference).
  enum class Mode { record, inference };

  explicit Tape(ExecutionContext& execution, Mode mode = Mode::record);
  ~Tape();
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  ExecutionContext& execution() const { return execution_; }
  bool recording() const { return mode_ == Mode::record; }

  // Makes the output variable of an op: it requires a gradient when any input does.
  Variable output(Tensor value, const Placements& placements,
                  std::span<const Variable> inputs) const;

  // Records how the gradients of `outputs` become gradients of `inputs`. What backward needs is
  // captured by `backward` and released as soon as it has run. Nothing is kept when no output
  // requires a gradient.
  void record(std::string_view op, std::vector<Variable> inputs, std::vector<Variable> outputs,
              Backward backward);

  // Called during backward() with each parameter as soon as its gradient is complete for this pass.
  void on_gradient_ready(std::function<void(const Variable&)> hook) { ready_ = std::move(hook); }

  // Adds `seed` times `objective` (of the same shape and dtype) to what the next backward()
  // differentiates: an auxiliary loss that arises inside a layer. Inside a recompute region it
  // counts once, when the region runs again. Nothing happens on an inference tape or when the
  // objective depends on no parameter.
  void add_objective(const Variable& objective, Tensor seed);

  // Runs everything recorded in reverse. `seed` is d(objective)/d(output), of output's shape and
  // dtype; it goes nowhere when only added objectives depend on parameters. The tape is empty
  // afterwards and can record again.
  void backward(const Variable& output, Tensor seed);

 private:
  friend class BackwardContext;
  friend Variable recompute(Tape&, std::function<Variable(Tape&, std::span<const Variable>)>,
                            std::vector<Variable>);
  void run(BackwardContext::Node& node);
  void count_uses(const BackwardContext::Node& node, int change);

  ExecutionContext& execution_;
  Mode mode_;
  bool probing_ = false;          // recompute's first pass: note parameters, keep nothing
  std::vector<Variable> probed_;  // distinct parameters met while probing
  struct Objective {
    Variable variable;
    Tensor seed;
  };
  void seed(const Variable& output, Tensor gradient);

  std::vector<Objective> objectives_;
  std::vector<BackwardContext::Node> nodes_;
  std::unordered_map<const void*, int> pending_;  // parameter id -> uses whose backward has not run
  std::function<void(const Variable&)> ready_;
};

// Runs `function(tape, inputs)` keeping only `inputs`; backward runs it again to get what it needs.
// The second run uses the same kernels on the same bits, so results are bit-equal to keeping
// everything. `function` must depend on nothing but its inputs and parameters.
Variable recompute(Tape& tape, std::function<Variable(Tape&, std::span<const Variable>)> function,
                   std::vector<Variable> inputs);

}  // namespace filigree
