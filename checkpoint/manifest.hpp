// manifest.json: what a checkpoint holds and where, with a hash for everything. FORMAT.md describes
// it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.hpp"
#include "checkpoint/region.hpp"

namespace filigree {

inline constexpr char kManifestName[] = "manifest.json";
inline constexpr char kCheckpointFormat[] = "filigree-checkpoint";
inline constexpr std::int64_t kCheckpointVersion = 1;

// Hashes are XXH3-128, 32 hex digits.
struct SavedFile {
  std::string name;  // "rank_00000.h5"
  std::int64_t bytes = 0;
  std::string hash;            // of the whole file
  std::string structure_hash;  // of the bytes outside the tensors' values, in file order
};

struct SavedSlice {
  std::size_t file = 0;  // index into CheckpointManifest::files
  std::string dataset;   // its HDF5 name there
  Region region;         // of the global tensor
  std::int64_t file_offset = 0;
  std::string hash;
  // So that a rank that wants a few rows reads and checks little else: hashes of so many rows of
  // the first dim each (the last of the rest). None where one part would hold them all.
  std::int64_t part_rows = 0;
  std::vector<std::string> part_hashes;
};

struct SavedTensor {
  DType dtype = DType::f32;
  Shape global_shape;
  std::vector<SavedSlice> slices;
};

struct CheckpointManifest {
  std::string id;  // of this save, also in every rank file
  CheckpointInfo info;
  std::vector<SavedFile> files;
  std::map<std::string, SavedTensor> tensors;
};

// Throws UserError when state or config hold what JSON cannot: a number that is not finite, text
// that is not UTF-8.
std::string to_text(const CheckpointManifest& manifest);

// Throws UserError that starts with `where` and says what is wrong: not JSON, another format or
// version, a hash that does not match, a field that is missing or out of range.
CheckpointManifest parse_manifest(const std::string& text, const std::string& where);

}  // namespace filigree
