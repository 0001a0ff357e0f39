// Mesh: the ranks as a grid with named axes.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "parallel/communicator.hpp"
#include "runtime/autograd/placement.hpp"

namespace filigree {

// Degrees along the axes; their product is the world size. Tensor ranks are neighbours, then
// context, data, pipeline: rank = ((p * data + d) * context + c) * tensor + t.
struct MeshShape {
  int pipeline = 1, data = 1, context = 1, tensor = 1;
  int world() const { return pipeline * data * context * tensor; }
  int operator[](Axis axis) const;
  std::string name() const;  // "dp2 x tp2", "1"
  bool operator==(const MeshShape&) const = default;
};

class Mesh {
 public:
  // Collective over `world`, whose size must be shape.world().
  Mesh(std::shared_ptr<Communicator> world, const MeshShape& shape);

  Communicator& world() const { return *world_; }
  Communicator& on(Axis axis) const;  // of size 1 too: its calls are copies
  int size(Axis axis) const { return shape_[axis]; }
  int coordinate(Axis axis) const;
  const MeshShape& shape() const { return shape_; }
  std::string describe() const;  // "[rank 5 data 1 tensor 1]"

 private:
  std::shared_ptr<Communicator> world_;
  MeshShape shape_;
  std::array<std::unique_ptr<Communicator>, kAxes.size()> axes_;
};

// The part [begin, end) of `total` that rank `rank` of `size` owns: sizes differ by at most one,
// the larger ones come first.
struct ShardRange {
  std::int64_t begin = 0, end = 0;
  std::int64_t size() const { return end - begin; }
  bool operator==(const ShardRange&) const = default;
};
ShardRange shard_range(std::int64_t total, int size, int rank);

}  // namespace filigree
