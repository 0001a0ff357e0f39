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
  std::string name;  // "parameters/blocks.0.norm1.weight", "optimizer/m/..."
  Tensor tensor;
  Shape global_shape;
  std::vector<std::int64_t> offset;  // of the slice, per dim
};

// What a checkpoint says of itself besides its tensors; stored in manifest.json.
struct CheckpointInfo {
  std::int64_t step = 0;
  MeshShape mesh;
  std::string config_hash;
  nlohmann::json state;   // trainer state: consumed samples, seeds, skipped steps, ...
  nlohmann::json config;  // the resolved configuration
};

// What save_checkpoint did; the same on every rank.
struct SavedCheckpoint {
  std::filesystem::path folder;       // checkpoints/step_00000200
  std::int64_t bytes = 0;             // of all rank files
  std::vector<std::string> warnings;  // old checkpoints that could not be removed
};

// Collective over `world`. Writes step_XXXXXXXX below `folder` (made when missing): one HDF5 file
// per rank and manifest.json last, every file hashed and flushed to disk, in a temporary folder
// that one rename publishes. Tensors are on the host, state and config hold finite numbers only;
// all ranks give the same folder and step, and the rest of `info` and `keep` are taken from rank 0.
// A slice that several ranks hold is written by one of them. If any rank fails, all ranks throw a
// UserError of the same text that names the first rank that failed and why, nothing is published
// and older checkpoints are untouched. Then removes all but the newest `keep` checkpoints (keep >=
// 1) and what killed saves have left.
SavedCheckpoint save_checkpoint(const std::filesystem::path& folder, const CheckpointInfo& info,
                                const std::vector<NamedTensor>& tensors, Communicator& world,
                                std::int64_t keep);

// An opened checkpoint folder. Thread-safe; opening and reading need no other rank.
class CheckpointReader {
 public:
  // Checks the manifest's own hash, and that every rank file is there with its size. Throws
  // UserError naming the file and what is wrong.
  explicit CheckpointReader(const std::filesystem::path& step_folder);

  const CheckpointInfo& info() const;
  std::filesystem::path folder() const;
  std::vector<std::string> names() const;
  bool contains(const std::string& name) const;
  Shape global_shape(const std::string& name) const;
  DType dtype(const std::string& name) const;
  std::int64_t bytes() const;  // of all rank files

  // Fills target.tensor, which may be any slice of the global tensor, from the slices in the files;
  // verifies the hash of every slice it reads, a few MiB in memory at a time. Throws UserError
  // naming file and tensor when one is damaged, has another dtype or global shape, or is
  // incomplete; target.tensor may then be partly filled.
  void read(const NamedTensor& target) const;

  // Reads every byte of every file against its hash. Throws UserError naming the first file and
  // tensor that are damaged.
  void verify() const;

 private:
  struct State;
  std::shared_ptr<const State> state_;
};

// The newest checkpoint below `folder` (a run's checkpoints/) that verifies, every byte of it, or
// nothing. Damaged newer ones are reported through `warn` and passed over; leftovers of interrupted
// saves are ignored. Reads a whole checkpoint: call it on one rank and share the answer.
std::optional<std::filesystem::path> newest_checkpoint(
    const std::filesystem::path& folder, const std::function<void(const std::string&)>& warn);

}  // namespace filigree
