// Private to this folder: what the copies of one Variable share.
#pragma once

#include "runtime/autograd/variable.hpp"

namespace filigree {

struct Variable::Slot {
  std::string name;  // parameters only
  Placements placements;
  Shape shape;
  DType gradient_dtype = DType::f32;
  bool requires_gradient = false;
  bool is_parameter = false;
  Tensor gradient;         // the buffer; for a parameter it outlives the passes
  bool has_gradient = false;
  std::optional<Placements> gradient_placements;
};

}  // namespace filigree
