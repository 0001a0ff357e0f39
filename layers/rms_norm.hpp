// RMSNorm with its weight, on activations that are the same on every tensor rank.
#pragma once

#include "layers/linear.hpp"

namespace filigree {

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

}  // namespace filigree
