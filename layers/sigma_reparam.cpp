#include "layers/sigma_reparam.hpp"

#include "kernels/elementwise/elementwise.hpp"
#include "kernels/elementwise/scalars.hpp"
#include "kernels/matmul/matmul.hpp"
#include "layers/linear.hpp"

namespace filigree {
namespace {

// Power iterations from a random vector. The largest singular values of a random matrix lie close
// together, so the vector converges slowly; the value, which is all that counts, is then right to
// well below one per cent.
constexpr int kFirstIterations = 200;

// y = x W, or y = x W^T
Tensor product(ExecutionContext& execution, const Tensor& x, const Tensor& w, bool transposed) {
  const Tensor y = execution.empty({1, w.dim(transposed ? 0 : 1)}, w.dtype());
  dispatch<Matmul>({.a = x.view({1, x.numel()}), .b = w, .c = y, .transpose_b = transposed},
                   execution);
  return y.view({y.numel()});
}

// y = x / by
void divide_into(ExecutionContext& execution, const Tensor& x, const Tensor& by, const Tensor& y) {
  const Tensor inverse = execution.empty({1}, DType::f64);
  dispatch<Divide>({.b = by, .y = inverse}, execution);
  dispatch<Scale>({.x = x, .y = y, .by = inverse}, execution);
}

}  // namespace

SigmaReparam::SigmaReparam(const std::string& name, std::size_t weight, const Mesh& mesh,
                           ParameterStore& store)
    : mesh_(&mesh), store_(&store), weight_(weight) {
  Parameter gamma = make_parameter(name + ".gamma", 0, 1, Placement::replicated(), mesh);
  gamma.initialisation.mean = 1.0;
  gamma.decays = false;
  gamma_ = store.add(std::move(gamma));
  Parameter u = make_parameter(name + ".u", 0, store[weight].global_shape[0],
                               split(0) ? Placement::sharded(0) : Placement::replicated(), mesh);
  u.initialisation.deviation = 1.0;
  u.decays = false;
  u.trains = false;
  u_ = store.add(std::move(u));
}

bool SigmaReparam::split(int dim) const {
  return (*store_)[weight_].placements[Axis::tensor].is_sharded(dim);
}

Variable SigmaReparam::forward(Tape& tape, const Variable& z) const {
  FILIGREE_CHECK(estimate_.v_I.defined(), (*store_)[gamma_].name,
                 ": LanguageModel::weights_changed() has not been called");
  return sigma_reparam(tape, z, store_->variable(weight_), store_->variable(gamma_), estimate_,
                       *mesh_);
}

// In `result`, f64 [1].
void SigmaReparam::find_norm(ExecutionContext& execution, const Tensor& part, bool split,
                             const Tensor& result) const {
  const Tensor square = execution.empty({1}, DType::f64);
  dispatch<Dot>({.a = part, .b = part, .sum = square}, execution);
  if (split) mesh_->on(Axis::tensor).all_reduce(square);
  dispatch<SquareRoot>({.x = square, .y = result}, execution);
}

// u = W v / |W v|
void SigmaReparam::find_left(ExecutionContext& execution) {
  const Tensor left = product(execution, estimate_.v_I, store_->master_of(weight_), true);
  if (split(1)) mesh_->on(Axis::tensor).all_reduce(left);
  const Tensor norm = execution.empty({1}, DType::f64);
  find_norm(execution, left, split(0), norm);
  divide_into(execution, left, norm, estimate_.u_O);
}

// sigma = |W^T u|, v = W^T u / sigma
void SigmaReparam::find_right(ExecutionContext& execution) {
  const Tensor right = product(execution, estimate_.u_O, store_->master_of(weight_), false);
  if (split(0)) mesh_->on(Axis::tensor).all_reduce(right);
  find_norm(execution, right, split(1), estimate_.sigma);
  divide_into(execution, right, estimate_.sigma, estimate_.v_I);
}

// What the estimate is kept in from now on.
void SigmaReparam::allocate(const ExecutionContext& execution) {
  const Tensor weight = store_->master_of(weight_);
  estimate_.u_O = store_->master_of(u_);
  estimate_.v_I = execution.empty({weight.dim(1)}, weight.dtype(), MemoryUse::parameters);
  for (Tensor* const number : {&estimate_.sigma, &estimate_.scale})
    *number = execution.empty({1}, DType::f64, MemoryUse::parameters);
}

void SigmaReparam::weights_changed(WeightChange change, ExecutionContext& execution) {
  if (!estimate_.v_I.defined()) allocate(execution);
  const Tensor gamma = store_->master_of(gamma_);
  const int iterations = change == WeightChange::initialised ? kFirstIterations
                         : change == WeightChange::updated && (*store_)[weight_].trains ? 1
                                                                                        : 0;
  if (change != WeightChange::updated) find_right(execution);
  for (int i = 0; i < iterations; ++i) {
    find_left(execution);
    find_right(execution);
  }
  if (change == WeightChange::initialised)
    dispatch<Scale>({.x = estimate_.sigma, .y = gamma}, execution);
  const Tensor wide_gamma = execution.empty({1}, DType::f64);
  dispatch<Scale>({.x = gamma, .y = wide_gamma}, execution);
  dispatch<Divide>({.a = wide_gamma, .b = estimate_.sigma, .y = estimate_.scale}, execution);
}

}  // namespace filigree
