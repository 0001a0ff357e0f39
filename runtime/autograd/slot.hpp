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
  Tensor gradient;  // the buffer; for a parameter it outlives the passes
  bool has_gradient = false;
  // The tensor was handed over by an op's backward, which may have handed it to other inputs too
  // (an addition does): it is read only, and a second contribution goes to a copy.
  bool gradient_is_shared = false;
  std::optional<Placements> gradient_placements;
};

}  // namespace filigree
