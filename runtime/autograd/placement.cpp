#include "runtime/autograd/placement.hpp"

namespace filigree {

const char* name_of(Axis axis) {
  constexpr std::array<const char*, kAxes.size()> names = {"pipeline", "data", "context", "tensor"};
  return names[static_cast<std::size_t>(axis)];
}

Placement Placement::gradient() const {
  switch (kind) {
    case Kind::replicated:
      return partial();
    case Kind::partial:
      return replicated();
    case Kind::invariant:
    case Kind::sharded:
      break;
  }
  return *this;
}

std::ostream& operator<<(std::ostream& out, const Placement& placement) {
  switch (placement.kind) {
    case Placement::Kind::invariant:
      return out << "invariant";
    case Placement::Kind::replicated:
      return out << "replicated";
    case Placement::Kind::partial:
      return out << "partial";
    case Placement::Kind::sharded:
      break;
  }
  return out << "sharded(" << placement.dim << ')';
}

Placements Placements::with(Axis axis, Placement placement) const {
  Placements result = *this;
  result.on_[static_cast<std::size_t>(axis)] = placement;
  return result;
}

Placements Placements::gradient() const {
  Placements result;
  for (const Axis axis : kAxes) result = result.with(axis, (*this)[axis].gradient());
  return result;
}

std::ostream& operator<<(std::ostream& out, const Placements& placements) {
  out << '{';
  const char* separator = "";
  for (const Axis axis : kAxes) {
    out << separator << name_of(axis) << ' ' << placements[axis];
    separator = ", ";
  }
  return out << '}';
}

}  // namespace filigree
