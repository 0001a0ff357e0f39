// RMSNorm layers with their weights.
#pragma once

#include "layers/linear.hpp"

namespace filigree {

// On activations that are the same on every tensor rank.
class RmsNorm {
 public:
  RmsNorm(const std::string& name, std::int64_t width, double eps, const Mesh& mesh,
          ParameterStore& store);
  Variable forward(Tape& tape, const Variable& x) const;

 private:
  ParameterStore* store_;
  std::size_t weight_;
  double eps_;
};

// Of queries or keys, per head (Henry et al. 2020, "Query-Key Normalization for Transformers";
// Dehghani et al. 2023, "Scaling Vision Transformers to 22 Billion Parameters", section 2), in the
// form of Qwen3: root mean square over the width of a head, one learned weight for all heads.
class HeadRmsNorm {
 public:
  HeadRmsNorm(const std::string& name, std::int64_t head_dim, double eps, const Mesh& mesh,
              ParameterStore& store);
  // x: heads of this rank, sharded(1) on the tensor axis.
  Variable forward(Tape& tape, const Variable& x_THK) const;

 private:
  ParameterStore* store_;
  std::size_t weight_;
  double eps_;
};

}  // namespace filigree
