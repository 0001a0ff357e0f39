// Tiny meshes of threads.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "parallel/mesh.hpp"
#include "parallel/run_ranks.hpp"

namespace filigree::testing {

// Runs `body` on every rank of a data x tensor mesh.
inline void on_mesh(const MeshShape& shape, const std::function<void(const Mesh&)>& body) {
  run_ranks(shape.world(), [&](std::shared_ptr<Communicator> world) {
    const Mesh mesh(std::move(world), shape);
    body(mesh);
  });
}

inline MeshShape grid(int data, int tensor) {
  MeshShape shape;
  shape.data = data;
  shape.tensor = tensor;
  return shape;
}

}  // namespace filigree::testing
