#include "layers/sigma_reparam.hpp"

#include <array>
#include <cmath>

#include "kernels/elementwise/elementwise.hpp"
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

void scale_into(ExecutionContext& execution, const Tensor& x, double factor, const Tensor& y) {
  dispatch<Scale>({.x = x, .y = y, .factor = factor}, execution);
}

double value_of(const ExecutionContext& execution, const Tensor& scalar) {
  return *execution.download(scalar).to(DType::f64).data<double>();
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

double SigmaReparam::norm(ExecutionContext& execution, const Tensor& part, bool split) const {
  const Tensor square = execution.empty({1}, DType::f64);
  dispatch<Dot>({.a = part, .b = part, .sum = square}, execution);
  const Tensor sum = execution.download(square);
  if (split) mesh_->on(Axis::tensor).all_reduce(sum);
  return std::sqrt(*sum.data<double>());
}

// u = W v / |W v|
void SigmaReparam::find_left(ExecutionContext& execution) {
  const Tensor left = product(execution, estimate_.v_I, store_->master_of(weight_), true);
  if (split(1)) mesh_->on(Axis::tensor).all_reduce(left);
  scale_into(execution, left, 1.0 / norm(execution, left, split(0)), estimate_.u_O);
}

// sigma = |W^T u|, v = W^T u / sigma
void SigmaReparam::find_right(ExecutionContext& execution) {
  const Tensor right = product(execution, estimate_.u_O, store_->master_of(weight_), false);
  if (split(0)) mesh_->on(Axis::tensor).all_reduce(right);
  estimate_.sigma = norm(execution, right, split(1));
  if (!estimate_.v_I.defined())
    estimate_.v_I = execution.empty(right.shape(), right.dtype(), MemoryUse::parameters);
  scale_into(execution, right, 1.0 / estimate_.sigma, estimate_.v_I);
}

void SigmaReparam::weights_changed(WeightChange change, ExecutionContext& execution) {
  const Tensor gamma = store_->master_of(gamma_);
  estimate_.u_O = store_->master_of(u_);
  const int iterations = change == WeightChange::initialised ? kFirstIterations
                         : change == WeightChange::updated && (*store_)[weight_].trains ? 1
                                                                                        : 0;
  if (change != WeightChange::updated) find_right(execution);
  for (int i = 0; i < iterations; ++i) {
    find_left(execution);
    find_right(execution);
  }
  if (change == WeightChange::initialised)
    execution.copy(Tensor::from<double>({1}, std::array{estimate_.sigma}).to(gamma.dtype()), gamma);
  estimate_.gamma = value_of(execution, gamma);
}

}  // namespace filigree
