// Parameter: a named weight, its place in the global tensor, and how it starts.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "parallel/mesh.hpp"
#include "runtime/autograd/variable.hpp"
#include "runtime/core/execution.hpp"

namespace filigree {

struct Initialisation {
  double mean = 0.0;
  double deviation = 0.0;
};

struct Parameter {
  std::string name;  // "blocks.3.attention.query.weight": the same on any layout
  Shape global_shape;
  Shape local_shape;
  std::vector<std::int64_t> offset;  // of the local slice in the global tensor, per dim
  Placements placements;
  Initialisation initialisation;
  bool decays = true;  // weight decay applies (not to norms and embeddings by default)
  bool gate = false;   // belongs to what a sparse mechanism learns its choice with
  // The optimizer updates it. Otherwise it has no gradient and no moments, and ops see a constant;
  // it is initialised, saved and loaded like any other.
  bool trains = true;

  // Bound by ParameterStore: the weight in compute precision, with its gradient buffer if it
  // trains.
  Variable variable;
};

// Owns the memory of all parameters of a model on this rank, as flat buffers: first those that
// train, then the others, each in the order of registration.
//   master   the weights that the optimizer updates (f32, or f64 when computing in f64)
//   compute  what the model reads: master itself, or its bf16 rounding
//   gradient in master's precision, of those that train
// Each parameter starts at a multiple of 16 elements; the padding is zero and stays zero.
class ParameterStore {
 public:
  // Declares parameters; returns an index that stays valid.
  std::size_t add(Parameter parameter);

  // Excludes from training those that `which` says. Before materialise().
  void freeze(const std::function<bool(const Parameter&)>& which);

  // Allocates, initialises from (seed, name, global index) and binds every parameter. Once.
  void materialise(DType compute_dtype, std::uint64_t seed, ExecutionContext& context);

  std::size_t size() const { return parameters_.size(); }
  const Parameter& operator[](std::size_t i) const { return parameters_[i]; }
  const std::vector<Parameter>& parameters() const { return parameters_; }
  const Variable& variable(std::size_t i) const { return parameters_[i].variable; }
  std::vector<Variable> trained_variables() const;  // in the order of the gradient buffer

  const Tensor& master() const { return master_; }  // flat [N]
  const Tensor& compute() const {
    return compute_;
  }  // flat [N]; shares storage with master unless bf16
  const Tensor& gradient() const { return gradient_; }  // flat [n], the first n of N elements
  // Parameter i's elements [begin, end) of the flat buffers.
  std::int64_t begin(std::size_t i) const { return begins_[i]; }
  std::int64_t end(std::size_t i) const { return begins_[i] + parameters_[i].local_shape.numel(); }
  Tensor master_of(std::size_t i) const { return slice(master_, i); }
  // A flat buffer like master's, or like the gradient's (an optimizer moment) where parameter i
  // trains, seen as parameter i.
  Tensor slice(const Tensor& flat, std::size_t i) const;

  void clear_gradients() const;
  // Rounds master into compute after master was changed from outside (a loaded checkpoint).
  void refresh_compute(ExecutionContext& context) const;

 private:
  // Lays out the parameters that train, or those that do not, from element `first` on; returns
  // where they end.
  std::int64_t lay_out(bool trains, std::int64_t first);
  void bind(std::size_t i);

  std::vector<Parameter> parameters_;
  std::vector<std::int64_t> begins_;
  Tensor master_, compute_, gradient_;
};

}  // namespace filigree
