// One rank's HDF5 file: written once with every byte hashed on the way, and checked against those
// hashes.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.hpp"
#include "checkpoint/manifest.hpp"
#include "runtime/storage/posix_file.hpp"

namespace filigree {

std::string rank_file_name(int rank);  // "rank_00000.h5"

struct SliceToWrite {
  std::string dataset;         // HDF5 path
  const PromisedSlice* slice;  // outlives the call
};

struct RankFileHeader {
  std::string id;  // of this save
  std::int64_t step = 0;
  int rank = 0, world = 1;
};

struct WrittenSlice {
  std::int64_t file_offset = 0;
  std::string hash;
  std::int64_t part_rows = 0;  // as in SavedSlice
  std::vector<std::string> part_hashes;
};

struct WrittenRankFile {
  SavedFile file;
  std::vector<WrittenSlice> slices;  // in the order given
};

// Creates `folder`/rank_XXXXX.h5, reserves its space, writes and hashes it and flushes it to disk.
// The values of a slice are fetched when the file comes to their place, and let go after it.
// Throws UserError naming the file and the reason, and the bytes that were needed.
WrittenRankFile write_rank_file(const std::filesystem::path& folder, const RankFileHeader& header,
                                const std::vector<SliceToWrite>& slices, FileSystem& system);

// Where the values of a slice lie in a file.
struct Extent {
  std::int64_t offset = 0, bytes = 0;
};

// The structure hash of a file whose values lie in `extents` (any order, not overlapping).
std::string structure_hash(const PosixFile& file, std::vector<Extent> extents);

// Calls use(piece, bytes) for the bytes [offset, offset + bytes) in pieces that fit a cache.
void read_in_pieces(const PosixFile& file, const Extent& extent,
                    const std::function<void(const std::byte*, std::int64_t)>& use);

}  // namespace filigree
