// sigmaReparam: a linear layer whose spectral norm is a parameter (Zhai et al. 2023, "Stabilizing
// Transformer Training by Preventing Attention Entropy Collapse", arXiv 2303.06296).
//
//   W_hat = gamma / sigma(W) W,   sigma(W) = |W^T u|,   v = W^T u / sigma
//
// so that sigma = u^T W v.
//
// gamma starts as sigma(W), as in the authors' code, so that the model starts as the one without. u
// is kept and saved with the parameters; sigma is a function of the weight and u, so that a loaded
// checkpoint gives the bits of the run that saved it. One power iteration follows every update of
// the weights, u = W v / |W v|: all micro-steps, recomputed regions and evaluations in between see
// one sigma.
#pragma once

#include <string>

#include "layers/functional/sigma_reparam.hpp"
#include "layers/parameter.hpp"

namespace filigree {

// What happened to the weights of a model.
enum class WeightChange {
  initialised,  // by ParameterStore::materialise
  loaded,       // from a checkpoint
  updated,      // by the optimizer
};

class SigmaReparam {
 public:
  // For the parameter `weight` [outputs, inputs] of the store; declares NAME.gamma and NAME.u.
  SigmaReparam(const std::string& name, std::size_t weight, const Mesh& mesh,
               ParameterStore& store);

  // x W^T -> x W_hat^T.
  Variable forward(Tape& tape, const Variable& z) const;

  // Brings sigma up to date; writes u, and gamma when initialised, to the store's master copy.
  // Collective over the tensor axis; the same bits on all ranks.
  void weights_changed(WeightChange change, ExecutionContext& execution);

 private:
  void find_left(ExecutionContext& execution);
  void find_right(ExecutionContext& execution);
  void find_norm(ExecutionContext& execution, const Tensor& part, bool split,
                 const Tensor& result) const;
  void allocate(const ExecutionContext& execution);
  // Whether the weight's dim `dim` is split over the tensor axis.
  bool split(int dim) const;

  const Mesh* mesh_;
  ParameterStore* store_;
  std::size_t weight_, gamma_, u_;
  SpectralEstimate estimate_;
};

}  // namespace filigree
