#include "parallel/mesh.hpp"

#include <algorithm>

namespace filigree {
namespace {

struct AxisAbbreviation {
  Axis axis;
  const char* text;
};
constexpr std::array<AxisAbbreviation, kAxes.size()> kAbbreviations = {
    {{Axis::pipeline, "pp"}, {Axis::data, "dp"}, {Axis::context, "cp"}, {Axis::tensor, "tp"}}};

// How far apart in the world two neighbours along `axis` are.
int stride_of(const MeshShape& shape, Axis axis) {
  switch (axis) {
    case Axis::tensor:
      return 1;
    case Axis::context:
      return shape.tensor;
    case Axis::data:
      return shape.tensor * shape.context;
    case Axis::pipeline:
      break;
  }
  return shape.tensor * shape.context * shape.data;
}

}  // namespace

int MeshShape::operator[](Axis axis) const {
  switch (axis) {
    case Axis::pipeline:
      return pipeline;
    case Axis::data:
      return data;
    case Axis::context:
      return context;
    case Axis::tensor:
      break;
  }
  return tensor;
}

std::string MeshShape::name() const {
  std::string text;
  for (const auto& [axis, abbreviation] : kAbbreviations)
    if ((*this)[axis] > 1) text += str(text.empty() ? "" : " x ", abbreviation, (*this)[axis]);
  return text.empty() ? "1" : text;
}

Mesh::Mesh(std::shared_ptr<Communicator> world, const MeshShape& shape)
    : world_(std::move(world)), shape_(shape) {
  for (const Axis axis : kAxes)
    FILIGREE_CHECK(shape[axis] >= 1, "degree ", shape[axis], " along the ", name_of(axis), " axis");
  FILIGREE_CHECK_EQ(shape.world(), world_->size(), "ranks of the mesh ", shape.name(), " and of ",
                    world_->name());
  for (const Axis axis : kAxes) {
    // The ranks that differ from this one along `axis` only share the first of them as their color.
    const int first = world_->rank() - coordinate(axis) * stride_of(shape_, axis);
    axes_[static_cast<std::size_t>(axis)] = world_->split(first, coordinate(axis), name_of(axis));
  }
}

Communicator& Mesh::on(Axis axis) const { return *axes_[static_cast<std::size_t>(axis)]; }

int Mesh::coordinate(Axis axis) const {
  return world_->rank() / stride_of(shape_, axis) % shape_[axis];
}

std::string Mesh::describe() const {
  std::string text = str("[rank ", world_->rank());
  for (const Axis axis : kAxes)
    if (size(axis) > 1) text += str(' ', name_of(axis), ' ', coordinate(axis));
  return text + ']';
}

ShardRange shard_range(std::int64_t total, int size, int rank) {
  FILIGREE_CHECK(total >= 0 && size >= 1 && rank >= 0 && rank < size, "shard ", rank, " of ", size,
                 " of ", total);
  const std::int64_t base = total / size, larger = total % size;
  const std::int64_t begin = rank * base + std::min<std::int64_t>(rank, larger);
  return {begin, begin + base + (rank < larger ? 1 : 0)};
}

}  // namespace filigree
