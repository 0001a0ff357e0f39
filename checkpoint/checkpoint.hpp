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
#include "runtime/storage/file_system.hpp"

namespace filigree {

// A rank's slice of a global tensor, under a name that is the same on any layout.
struct NamedTensor {
  std::string name;  // "parameters/blocks.0.norm1.weight", "optimizer/m/..."
  Tensor tensor;
  Shape global_shape;
  std::vector<std::int64_t> offset;  // of the slice, per dim
};

// A slice that is to be saved: what it is, and its values when it is their turn, so that one slice
// at a time need be in memory.
struct PromisedSlice {
  PromisedSlice() = default;
  PromisedSlice(const NamedTensor& slice, std::function<Tensor()> values);
  // Values in host memory that stay as they are until they are written.
  PromisedSlice(const NamedTensor& slice);

  std::string name;
  DType dtype = DType::f32;
  Shape shape;  // of the slice
  Shape global_shape;
  std::vector<std::int64_t> offset;  // of the slice, per dim
  std::function<Tensor()> fetch;     // the values, in host memory

  std::int64_t bytes() const { return shape.numel() * size_of(dtype); }
};

// What a checkpoint says of itself besides its tensors; stored in manifest.json.
struct CheckpointInfo {
  std::int64_t step = 0;
  MeshShape mesh;
  std::string config_hash;
  nlohmann::json state;   // trainer state: consumed samples, seeds, skipped steps, ...
  nlohmann::json config;  // the resolved configuration
};

// Which checkpoints stay when a new one is there: the newest `keep`, and those whose step is a
// multiple of `every` (0: none for that). The last two that are intact stay in any case.
struct RetentionRule {
  std::int64_t keep = 3;
  std::int64_t every = 0;
};

// What a save did; the same on every rank.
struct SavedCheckpoint {
  std::filesystem::path folder;       // checkpoints/step_00000200
  std::int64_t bytes = 0;             // of all rank files
  std::vector<std::string> warnings;  // of removals of old checkpoints that have failed by now
};

class Retention;  // retention.hpp

// A save in these calls, in this order, each once; those without communication may run on another
// thread while the ranks do something else. Writes step_XXXXXXXX below `folder` (made when
// missing): one HDF5 file per rank and manifest.json last, every file hashed and flushed to disk,
// in a temporary folder that one rename publishes. A slice that several ranks hold is written by
// one of them.
//
// If any rank fails, the next collective call throws, on all ranks, a UserError of the same text
// that names the first rank that failed and why; nothing is published then, older checkpoints are
// untouched, and the save is over. One that is given up removes what it wrote.
class CheckpointSave {
 public:
  // Collective: who writes what, and a folder for it. No values are fetched yet. State and config
  // hold finite numbers only; all ranks give the same folder and step, and the rest of `info` and
  // `retention` are taken from rank 0, which first waits for what an earlier save has superseded to
  // be removed. What is referred to must outlive the save.
  CheckpointSave(std::filesystem::path folder, CheckpointInfo info,
                 std::vector<PromisedSlice> slices, Communicator& world, Retention& retention,
                 FileSystem& system = posix_file_system());
  ~CheckpointSave();
  CheckpointSave(const CheckpointSave&) = delete;
  CheckpointSave& operator=(const CheckpointSave&) = delete;

  // Which of the slices this rank writes, ascending; replicas of the others are written elsewhere.
  const std::vector<std::size_t>& own_slices() const;
  void write();              // this rank's file; fetches each of them once, one after the other
  void gather();             // collective: what all have written
  void publish();            // rank 0: the manifest, the rename, and the removal of old ones begins
  SavedCheckpoint finish();  // collective

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// All of it at once, the removal of what is superseded too. Collective.
SavedCheckpoint save_checkpoint(const std::filesystem::path& folder, const CheckpointInfo& info,
                                const std::vector<PromisedSlice>& slices, Communicator& world,
                                const RetentionRule& rule,
                                FileSystem& system = posix_file_system());

struct CheckpointManifest;  // manifest.hpp

// An opened checkpoint folder. Thread-safe; opening and reading need no other rank.
class CheckpointReader {
 public:
  // Checks the manifest's own hash, and that every rank file is there with its size. Throws
  // UserError naming the file and what is wrong.
  explicit CheckpointReader(const std::filesystem::path& step_folder);

  const CheckpointInfo& info() const;
  const CheckpointManifest& manifest() const;
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
  // tensor that are damaged. `progress` gets bytes done and in all.
  void verify(const std::function<void(std::int64_t, std::int64_t)>& progress = {}) const;

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
