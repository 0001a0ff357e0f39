// CheckpointReader. Values are read at the offsets in the manifest, whose hash was checked first:
// libhdf5, which can crash on damaged metadata, never sees a file.
#include <algorithm>
#include <mutex>
#include <system_error>

#include "checkpoint/checkpoint.hpp"
#include "checkpoint/folders.hpp"
#include "checkpoint/manifest.hpp"
#include "checkpoint/rank_file.hpp"
#include "runtime/storage/atomic_file.hpp"
#include "runtime/storage/hash.hpp"

namespace filigree {
namespace {

constexpr std::int64_t kChunkBytes = std::int64_t{4} << 20;

Extent extent_of(const SavedSlice& slice, DType dtype) {
  return {slice.file_offset, slice.region.numel() * size_of(dtype)};
}

// Of the first dim; a scalar is one row.
std::int64_t rows_of(const Region& region) { return region.rank == 0 ? 1 : region.extent(0); }

struct Rows {
  std::int64_t begin = 0, end = 0;
};

void check_size(const std::filesystem::path& path, std::int64_t expected) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (error) {
    throw UserError(str("checkpoint file ", path.string(), " cannot be used: ", error.message(),
                        "; the manifest lists it with ", expected, " bytes"));
  }
  if (static_cast<std::int64_t>(size) != expected) {
    throw UserError(str("checkpoint file ", path.string(), " has ", size,
                        " bytes but the manifest says ", expected,
                        "; it was cut short or replaced"));
  }
}

}  // namespace

struct CheckpointReader::State {
  std::filesystem::path folder;
  CheckpointManifest manifest;
  mutable std::mutex mutex;
  mutable std::vector<bool> structure_checked;  // per file; guarded by mutex

  std::filesystem::path path_of(std::size_t file) const {
    return folder / manifest.files[file].name;
  }
  const SavedTensor& tensor(const std::string& name) const;
  std::vector<Extent> extents_in(std::size_t file) const;
  void check_structure(std::size_t file, const PosixFile& opened, const std::string& reason) const;
  void check_target(const NamedTensor& target, const SavedTensor& saved) const;
  void read_part(const PosixFile& file, const SavedTensor& saved, const SavedSlice& slice,
                 const Rows& part, const Region& wanted, std::byte* out, Hasher128& hasher) const;
  void read_slice(const std::string& name, const SavedTensor& saved, const SavedSlice& slice,
                  const Region& wanted, std::byte* out) const;
  void verify_file(std::size_t file, const std::function<void(std::int64_t)>& progress) const;
  [[noreturn]] void damaged(const std::string& name, const SavedSlice& slice) const;
};

const SavedTensor& CheckpointReader::State::tensor(const std::string& name) const {
  const auto found = manifest.tensors.find(name);
  if (found != manifest.tensors.end()) return found->second;
  std::vector<std::string> known;
  for (const auto& [other, saved] : manifest.tensors) known.push_back(other);
  const std::string nearest = nearest_name(name, known);
  throw UserError(str("checkpoint ", folder.string(), " has no tensor '", name, "'",
                      nearest.empty() ? "" : "; the nearest is '" + nearest + "'"));
}

std::vector<Extent> CheckpointReader::State::extents_in(std::size_t file) const {
  std::vector<Extent> extents;
  for (const auto& [name, saved] : manifest.tensors) {
    for (const SavedSlice& slice : saved.slices) {
      if (slice.file == file) extents.push_back(extent_of(slice, saved.dtype));
    }
  }
  return extents;
}

// The structure holds the save's id: a rank file of another save fails here whatever its values
// are.
void CheckpointReader::State::check_structure(std::size_t file, const PosixFile& opened,
                                              const std::string& reason) const {
  const std::lock_guard<std::mutex> lock(mutex);
  if (structure_checked[file]) return;
  if (structure_hash(opened, extents_in(file)) != manifest.files[file].structure_hash) {
    throw UserError(str("checkpoint file ", path_of(file).string(),
                        " is damaged or belongs to another checkpoint: the hash of its HDF5 ",
                        "structure does not match the manifest (", reason, ")"));
  }
  structure_checked[file] = true;
}

void CheckpointReader::State::damaged(const std::string& name, const SavedSlice& slice) const {
  throw UserError(str("checkpoint file ", path_of(slice.file).string(), " is damaged: tensor '",
                      name, "' ", slice.region.name(), " does not match its hash in the manifest"));
}

void CheckpointReader::State::check_target(const NamedTensor& target,
                                           const SavedTensor& saved) const {
  const std::string where = str("tensor '", target.name, "' of checkpoint ", folder.string());
  FILIGREE_CHECK(target.tensor.defined() && target.tensor.device().kind == DeviceKind::cpu,
                 "the target of ", where, " must be a host tensor");
  if (target.tensor.dtype() != saved.dtype) {
    throw UserError(str(where, " is ", name_of(saved.dtype), " but ",
                        name_of(target.tensor.dtype()), " is wanted"));
  }
  if (target.global_shape != saved.global_shape) {
    throw UserError(str(where, " has shape ", saved.global_shape, " but ", target.global_shape,
                        " is wanted; the model's configuration differs from the saved one"));
  }
  FILIGREE_CHECK(
      encloses(whole_region(saved.global_shape), region_of(target.tensor.shape(), target.offset)),
      "the target of ", where, " reaches outside it");
}

// Whole rows of the first dim at a time, so that memory is bounded and what was read is a region.
void CheckpointReader::State::read_part(const PosixFile& file, const SavedTensor& saved,
                                        const SavedSlice& slice, const Rows& part,
                                        const Region& wanted, std::byte* out,
                                        Hasher128& hasher) const {
  const Extent extent = extent_of(slice, saved.dtype);
  const std::int64_t row_bytes = extent.bytes / rows_of(slice.region);
  const std::int64_t chunk_rows =
      std::clamp<std::int64_t>(kChunkBytes / row_bytes, 1, part.end - part.begin);
  std::vector<std::byte> chunk(static_cast<std::size_t>(chunk_rows * row_bytes));
  for (std::int64_t row = part.begin; row < part.end; row += chunk_rows) {
    const std::int64_t count = std::min(chunk_rows, part.end - row);
    file.read_at(extent.offset + row * row_bytes, chunk.data(), count * row_bytes);
    hasher.update(chunk.data(), static_cast<std::size_t>(count * row_bytes));
    Region region = slice.region;
    if (region.rank > 0) {
      region.begin[0] = slice.region.begin[0] + row;
      region.end[0] = region.begin[0] + count;
    }
    const Region both = intersection(region, wanted);
    if (!both.empty()) copy_part(both, size_of(saved.dtype), chunk.data(), region, out, wanted);
  }
}

// Only the parts that hold a wanted row; each against its own hash.
void CheckpointReader::State::read_slice(const std::string& name, const SavedTensor& saved,
                                         const SavedSlice& slice, const Region& wanted,
                                         std::byte* out) const {
  const PosixFile file = PosixFile::open_for_reading(path_of(slice.file));
  check_structure(slice.file, file, str("reading tensor '", name, "'"));
  const std::int64_t rows = rows_of(slice.region);
  const bool in_parts = !slice.part_hashes.empty();
  const std::int64_t part_rows = in_parts ? slice.part_rows : rows;
  Rows needed{0, rows};
  if (slice.region.rank > 0) {
    const Region both = intersection(slice.region, wanted);
    needed = {both.begin[0] - slice.region.begin[0], both.end[0] - slice.region.begin[0]};
  }
  for (std::int64_t part = needed.begin / part_rows; part * part_rows < needed.end; ++part) {
    Hasher128 hasher;
    read_part(file, saved, slice, {part * part_rows, std::min((part + 1) * part_rows, rows)},
              wanted, out, hasher);
    const std::string& expected =
        in_parts ? slice.part_hashes[static_cast<std::size_t>(part)] : slice.hash;
    if (hasher.digest() != expected) damaged(name, slice);
  }
}

void CheckpointReader::State::verify_file(std::size_t file,
                                          const std::function<void(std::int64_t)>& progress) const {
  const SavedFile& saved_file = manifest.files[file];
  check_size(path_of(file), saved_file.bytes);
  const PosixFile opened = PosixFile::open_for_reading(path_of(file));
  Hasher128 whole;
  read_in_pieces(opened, {0, saved_file.bytes}, [&](const std::byte* piece, std::int64_t bytes) {
    whole.update(piece, static_cast<std::size_t>(bytes));
    progress(bytes);
  });
  if (whole.digest() == saved_file.hash) return;
  // Something is wrong; find what, to name it.
  for (const auto& [name, saved] : manifest.tensors) {
    for (const SavedSlice& slice : saved.slices) {
      if (slice.file != file) continue;
      Hasher128 hasher;
      read_in_pieces(opened, extent_of(slice, saved.dtype),
                     [&](const std::byte* piece, std::int64_t bytes) {
                       hasher.update(piece, static_cast<std::size_t>(bytes));
                     });
      if (hasher.digest() != slice.hash) damaged(name, slice);
    }
  }
  throw UserError(str("checkpoint file ", path_of(file).string(),
                      " is damaged: its HDF5 structure does not match its hash in the manifest"));
}

CheckpointReader::CheckpointReader(const std::filesystem::path& step_folder) {
  auto state = std::make_shared<State>();
  state->folder = step_folder;
  const std::filesystem::path path = step_folder / kManifestName;
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error))
    throw UserError(str("checkpoint ", step_folder.string(), " has no file ", kManifestName));
  state->manifest = parse_manifest(read_file(path), str("checkpoint manifest ", path.string()));
  const auto step = step_of_folder_name(step_folder.filename().string());
  if (step && *step != state->manifest.info.step)
    throw UserError(str("checkpoint ", step_folder.string(), " holds step ",
                        state->manifest.info.step, ": it was renamed; give it the name ",
                        step_folder_name(state->manifest.info.step), " back"));
  state->structure_checked.resize(state->manifest.files.size());
  for (std::size_t file = 0; file < state->manifest.files.size(); ++file) {
    check_size(state->path_of(file), state->manifest.files[file].bytes);
  }
  state_ = std::move(state);
}

const CheckpointManifest& CheckpointReader::manifest() const { return state_->manifest; }

const CheckpointInfo& CheckpointReader::info() const { return state_->manifest.info; }

std::filesystem::path CheckpointReader::folder() const { return state_->folder; }

std::vector<std::string> CheckpointReader::names() const {
  std::vector<std::string> names;
  for (const auto& [name, saved] : state_->manifest.tensors) names.push_back(name);
  return names;
}

bool CheckpointReader::contains(const std::string& name) const {
  return state_->manifest.tensors.count(name) > 0;
}

Shape CheckpointReader::global_shape(const std::string& name) const {
  return state_->tensor(name).global_shape;
}

DType CheckpointReader::dtype(const std::string& name) const { return state_->tensor(name).dtype; }

std::int64_t CheckpointReader::bytes() const {
  std::int64_t total = 0;
  for (const SavedFile& file : state_->manifest.files) total += file.bytes;
  return total;
}

void CheckpointReader::read(const NamedTensor& target) const {
  const SavedTensor& saved = state_->tensor(target.name);
  state_->check_target(target, saved);
  const Region wanted = region_of(target.tensor.shape(), target.offset);
  if (wanted.empty()) return;
  std::vector<Region> missing{wanted};
  for (const SavedSlice& slice : saved.slices) {
    const bool useful = std::any_of(missing.begin(), missing.end(), [&](const Region& region) {
      return !intersection(region, slice.region).empty();
    });
    if (!useful) continue;
    state_->read_slice(target.name, saved, slice, wanted,
                       static_cast<std::byte*>(target.tensor.raw()));
    missing = difference(missing, slice.region);
  }
  if (missing.empty()) return;
  throw UserError(str("tensor '", target.name, "' of checkpoint ", state_->folder.string(),
                      " is incomplete: no file holds ", missing.front().name(), " of ",
                      saved.global_shape));
}

void CheckpointReader::verify(
    const std::function<void(std::int64_t, std::int64_t)>& progress) const {
  std::int64_t done = 0;
  for (std::size_t file = 0; file < state_->manifest.files.size(); ++file) {
    state_->verify_file(file, [&](std::int64_t bytes) {
      done += bytes;
      if (progress) progress(done, this->bytes());
    });
  }
}

}  // namespace filigree
