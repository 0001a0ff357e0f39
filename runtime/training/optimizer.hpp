// AdamW over the flat buffers of a ParameterStore, and the gradient norms that clipping needs.
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

// Of the model and of its gates: norms of their gradients, or what these are multiplied by. They
// are clipped apart: a gate that is taught by comparison with dense attention has a gradient that
// says nothing about the model's and would shorten the model's steps.
struct ModelAndGates {
  double model = 0.0, gates = 0.0;
};

class AdamWOptimizer {
 public:
  // Allocates the moments m and v, flat like store.gradient(), and zeroes them. `store` is
  // materialised and outlives the optimizer. Throws UserError naming the option out of range.
  AdamWOptimizer(const OptimizerConfig& config, const ParameterStore& store,
                 ExecutionContext& context);

  // One update from store.gradient() times the scale; see kernels/optimizer/adamw.hpp for the
  // formula.
  void update(double learning_rate, const ModelAndGates& gradient_scale, ExecutionContext& context);

  const Tensor& first_moment() const { return m_; }   // flat [n]
  const Tensor& second_moment() const { return v_; }  // flat [n]
  // Updates done so far: the bias correction depends on it, skipped steps do not count.
  std::int64_t updates() const { return updates_; }
  void set_updates(std::int64_t updates) { updates_ = updates; }
  const std::vector<ParameterRun>& runs() const { return runs_; }  // flag: weight decay applies

 private:
  OptimizerConfig config_;
  const ParameterStore& store_;
  std::vector<ParameterRun> runs_;
  Tensor m_, v_;
  std::int64_t updates_ = 0;
};

// Euclidean norms of the gradient of all parameters that train, each element counted once whatever
// the layout (derived from the parameters' placements); the same bits on every rank. Both are NaN
// on every rank when an element is not finite on any. Precondition: gradients are reduced.
// Collective over the world.
ModelAndGates gradient_norms(const ParameterStore& store, const Mesh& mesh,
                             ExecutionContext& context);

// What gradients are multiplied by so that their norm is at most clip_norm (0: no clipping).
double clip_scale(double norm, double clip_norm);

}  // namespace filigree
