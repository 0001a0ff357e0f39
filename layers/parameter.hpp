// Parameter: a named weight, its place in the global tensor, and how it starts.
#pragma once

#include <cstdint>
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

  // Bound by ParameterStore: the weight in compute precision, with its gradient buffer.
  Variable variable;
};

// Owns the memory of all parameters of a model on this rank, as flat buffers in the order of
// registration:
//   master   the weights that the optimizer updates (f32, or f64 when computing in f64)
//   compute  what the model reads: master itself, or its bf16 rounding
//   gradient in master's precision
// Each parameter starts at a multiple of 16 elements; the padding is zero and stays zero.
class ParameterStore {
 public:
  // Declares parameters; returns an index that stays valid.
  std::size_t add(Parameter parameter);

  // Allocates, initialises from (seed, name, global index) and binds every parameter. Once.
  void materialise(DType compute_dtype, std::uint64_t seed, ExecutionContext& context);

  std::size_t size() const { return parameters_.size(); }
  const Parameter& operator[](std::size_t i) const { return parameters_[i]; }
  const std::vector<Parameter>& parameters() const { return parameters_; }
  const Variable& variable(std::size_t i) const { return parameters_[i].variable; }
  std::vector<Variable> variables() const;

  const Tensor& master() const { return master_; }  // flat [N]
  const Tensor& compute() const {
    return compute_;
  }  // flat [N]; shares storage with master unless bf16
  const Tensor& gradient() const { return gradient_; }  // flat [N]
  // Parameter i's elements [begin, end) of the flat buffers.
  std::int64_t begin(std::size_t i) const { return begins_[i]; }
  std::int64_t end(std::size_t i) const { return begins_[i] + parameters_[i].local_shape.numel(); }
  Tensor master_of(std::size_t i) const { return slice(master_, i); }
  // A flat buffer like master's (an optimizer moment), seen as parameter i.
  Tensor slice(const Tensor& flat, std::size_t i) const;

  void clear_gradients() const;
  // Rounds master into compute after master was changed from outside (a loaded checkpoint).
  void refresh_compute(ExecutionContext& context) const;

 private:
  std::vector<Parameter> parameters_;
  std::vector<std::int64_t> begins_;
  Tensor master_, compute_, gradient_;
};

}  // namespace filigree
