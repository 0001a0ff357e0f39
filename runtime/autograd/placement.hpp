// How a tensor is distributed along each axis of the mesh, as a type: the placement of a value
// fixes the placement of its gradient. The table is DESIGN.md's; the idea is that of distribution
// types (replicate / varying / partial) used by spmd_types and DTensor.
#pragma once

#include <array>
#include <cstdint>
#include <ostream>

namespace filigree {

enum class Axis : std::uint8_t { pipeline, data, context, tensor };
inline constexpr std::array<Axis, 4> kAxes = {Axis::pipeline, Axis::data, Axis::context,
                                              Axis::tensor};
const char* name_of(Axis axis);

// On one axis:
//   invariant    same value everywhere, and the same work follows; its gradient is invariant
//   replicated   same value everywhere, different work follows;    its gradient is partial
//   partial      the value is the sum over the ranks;              its gradient is replicated
//   sharded(d)   each rank holds a slice of dim d;                 its gradient is sharded(d)
struct Placement {
  enum class Kind : std::uint8_t { invariant, replicated, partial, sharded };
  Kind kind = Kind::invariant;
  int dim = -1;
  bool operator==(const Placement&) const = default;

  static constexpr Placement invariant() { return {Kind::invariant, -1}; }
  static constexpr Placement replicated() { return {Kind::replicated, -1}; }
  static constexpr Placement partial() { return {Kind::partial, -1}; }
  static constexpr Placement sharded(int dim) { return {Kind::sharded, dim}; }

  bool is_invariant() const { return kind == Kind::invariant; }
  bool is_replicated() const { return kind == Kind::replicated; }
  bool is_partial() const { return kind == Kind::partial; }
  bool is_sharded() const { return kind == Kind::sharded; }
  bool is_sharded(int d) const { return kind == Kind::sharded && dim == d; }

  // The placement of the gradient of a value placed like this.
  Placement gradient() const;
};
std::ostream& operator<<(std::ostream& out, const Placement& placement);

// One placement per mesh axis; invariant where nothing is said.
class Placements {
 public:
  const Placement& operator[](Axis axis) const { return on_[static_cast<std::size_t>(axis)]; }
  Placements with(Axis axis, Placement placement) const;
  Placements gradient() const;
  bool operator==(const Placements&) const = default;

 private:
  std::array<Placement, kAxes.size()> on_{};
};
std::ostream& operator<<(std::ostream& out, const Placements& placements);

}  // namespace filigree
