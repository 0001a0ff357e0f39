// manifest.json of a folder of token shards: what must be there, and its hashes, so that nothing is
// scanned at start.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace filigree {

inline constexpr std::int64_t kShardFormatVersion = 1;
inline constexpr std::int64_t kChecksumBlock = 8192;  // tokens per checksum
inline constexpr const char* kDatasetManifestName = "manifest.json";
inline constexpr const char* kTokenizerName = "tokenizer.model";

struct ShardEntry {
  std::string file;        // name inside the folder
  std::int64_t bytes = 0;  // of the file
  std::int64_t tokens = 0;
  std::int64_t documents = 0;      // that begin in this shard
  std::int64_t tokens_offset = 0;  // byte of the file where the token values begin
  std::string hash;                // of the file (hash128)
  std::string metadata_hash;       // of the file without its token values
};

struct SplitEntry {
  std::int64_t tokens = 0;  // end-of-document ids included
  std::int64_t documents = 0;
  std::int64_t text_bytes = 0;  // UTF-8
  std::vector<ShardEntry> shards;
};

struct Manifest {
  std::string tokenizer_hash;
  std::int64_t vocabulary = 0;
  std::int64_t end_of_document = 0;
  std::map<std::string, SplitEntry> splits;  // "train", "validation"
  nlohmann::json options;                    // how the folder was made; for people

  std::int64_t element_bytes() const { return vocabulary <= 65536 ? 2 : 4; }  // u16 or u32 tokens
  // Identity of a split: a hash over its shards' hashes and the tokenizer's.
  std::string split_hash(const std::string& split) const;
};

// Written atomically, with a hash over everything else in it.
void write_manifest(const std::filesystem::path& folder, const Manifest& manifest);

// Throws UserError naming the file: missing (the folder is no shard folder, or unfinished), no
// JSON, changed since it was written, of another version, a field missing.
Manifest read_manifest(const std::filesystem::path& folder);

}  // namespace filigree
