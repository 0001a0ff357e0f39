// Checkpoints: logical tensors to files and back, published atomically.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "parallel/communicator.hpp"
#include "parallel/mesh.hpp"
#include "runtime/core/tensor.hpp"

namespace filigree {

// A rank's slice of a global tensor, under a name that is the same on any layout.
struct NamedTensor {
  std::string name;                   // "parameters/blocks.0.norm1.weight", "optimizer/m/..."
  Tensor tensor;
  Shape global_shape;
  std::vector<std::int64_t> offset;   // of the slice, per dim
};

// What a checkpoint says of itself besides its tensors; stored in manifest.json.
struct CheckpointInfo {
  std::int64_t step = 0;
  MeshShape mesh;
  std::string config_hash;
  nlohmann::json state;               // trainer state: consumed samples, seeds, skipped steps, ...
  nlohmann::json config;              // the resolved configuration
};

// Collective over `world`. Writes checkpoints/step_XXXXXXXX below `folder`: one HDF5 file per rank and manifest.json last,
// every file hashed and fsynced, in a temporary folder that one rename publishes. If any rank fails, all ranks
// throw the same error, nothing is published and older checkpoints are untouched. Then removes all but the newest `keep`
// checkpoints (keep >= 1).
void save_checkpoint(const std::filesystem::path& folder, const CheckpointInfo& info,
                     const std::vector<NamedTensor>& tensors, Communicator& world, std::int64_t keep);

// An opened, verified checkpoint folder.
class CheckpointReader {
 public:
  // Checks the manifest's own hash, and that every rank file is there with its size. Throws UserError naming the
  // file and what is wrong.
  explicit CheckpointReader(const std::filesystem::path& step_folder);

  const CheckpointInfo& info() const;
  std::filesystem::path folder() const;
  std::vector<std::string> names() const;
  Shape global_shape(const std::string& name) const;
  DType dtype(const std::string& name) const;

  // Fills target.tensor, which may be any slice of the global tensor, from the slices in the files; verifies the hash of every
  // slice it reads. Throws UserError naming file and tensor.
  void read(const NamedTensor& target) const;

 private:
  struct State;
  std::shared_ptr<const State> state_;
};

// The newest complete checkpoint below `folder` (a run's checkpoints/), or nothing. Damaged newer ones are
// reported through `warn` and passed over; leftovers of interrupted saves are ignored.
std::optional<std::filesystem::path> newest_checkpoint(
    const std::filesystem::path& folder, const std::function<void(const std::string&)>& warn);

}  // namespace filigree
