// Which rank answers for a parameter when every element of the model must be counted exactly once.
#pragma once

#include "layers/parameter.hpp"
#include "parallel/mesh.hpp"

namespace filigree {

// True on exactly one rank per element of the global tensor: a parameter that is sharded on an axis
// is different on every rank of it and counts on each; one that is not is the same on all and
// counts on the first.
inline bool counts_here(const Parameter& parameter, const Mesh& mesh) {
  for (const Axis axis : kAxes)
    if (!parameter.placements[axis].is_sharded() && mesh.coordinate(axis) != 0) return false;
  return true;
}

}  // namespace filigree
