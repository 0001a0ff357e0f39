// AdamW over the flat buffers of a ParameterStore, with the gradient norms that clipping needs.
// Nothing here asks the host how the gradients came out: work up to the updated weights is enqueued
// as a whole.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "layers/parameter.hpp"
#include "parallel/mesh.hpp"
#include "runtime/core/execution.hpp"
#include "runtime/training/config.hpp"

namespace filigree {

// Neighbouring parameters that are treated alike: elements [begin, end) of the flat buffers. The
// padding between them is zero in every buffer and stays so under every update.
struct ParameterRun {
  std::int64_t begin = 0, end = 0;
  bool flag = false;
  bool gate = false;  // of a sparsity mechanism
  bool operator==(const ParameterRun&) const = default;
};
// The longest runs of parameters, all gates or none, on which `flag` agrees, in order; together
// they cover every parameter that trains, and nothing else.
std::vector<ParameterRun> parameter_runs(const ParameterStore& store,
                                         const std::function<bool(const Parameter&)>& flag);

// What a step adds up, in the context's memory: f64, all in one tensor, so that one copy brings it
// to the host. Model and gates are clipped apart: a gate that is taught by comparison with dense
// attention has a gradient that says nothing about the model's and would shorten the model's steps.
class StepTotals {
 public:
  explicit StepTotals(ExecutionContext& context);

  void clear(ExecutionContext& context) const { context.zero(all_); }
  Tensor loss() const { return all_.rows(0, 1); }  // [1], summed over tokens
  Tensor squares() const {
    return all_.rows(1, 4);
  }                                                 // [3], of the gradients of the model, of the
                                                    // gates, and of what other ranks answer for
  Tensor norms() const { return all_.rows(4, 6); }  // [2], of model and gates

  struct Values {
    double loss = 0.0;
    double model_norm = 0.0, gate_norm = 0.0;  // before clipping; NaN when loss or gradient is not
                                               // finite, and nothing was updated
  };
  Values read(const ExecutionContext& context) const;  // waits

 private:
  Tensor all_;
};

class AdamWOptimizer {
 public:
  // Allocates the moments m and v, flat like store.gradient(), and zeroes them. `store` is
  // materialised and outlives the optimizer. Throws UserError naming the option out of range.
  AdamWOptimizer(const OptimizerConfig& config, const ParameterStore& store,
                 ExecutionContext& context);

  // One update from store.gradient(), which is reduced, with clipping: from totals.loss() and
  // totals.squares(), summed over ranks, to totals.norms() and the weights; see kernels/optimizer/
  // for the formulas. Updates nothing where loss or gradient is not finite. learning_rate: f64 [1],
  // in the context's memory.
  void update(const Tensor& learning_rate, const StepTotals& totals, ExecutionContext& context);

  const Tensor& first_moment() const { return m_; }   // flat [n]
  const Tensor& second_moment() const { return v_; }  // flat [n]
  // Updates done so far: the bias correction depends on it, skipped steps do not count. Waits.
  std::int64_t updates(const ExecutionContext& context) const;
  void set_updates(std::int64_t updates, const ExecutionContext& context);
  const std::vector<ParameterRun>& runs() const { return runs_; }  // flag: weight decay applies

 private:
  OptimizerConfig config_;
  const ParameterStore& store_;
  std::vector<ParameterRun> runs_;
  Tensor m_, v_;
  Tensor updates_;  // i64 [1]
};

// Adds to squares [3] (StepTotals) those of all parameters that train, each element counted once
// whatever the layout (derived from the parameters' placements); the same bits on every rank.
// Precondition: gradients are reduced. Collective over the world.
void add_gradient_squares(const ParameterStore& store, const Mesh& mesh, const Tensor& squares,
                          ExecutionContext& context);

}  // namespace filigree
