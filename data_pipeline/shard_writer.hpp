// Writes one split's tokens into HDF5 shards.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data_pipeline/manifest.hpp"
#include "data_pipeline/tokenizer.hpp"
#include "runtime/storage/posix_file.hpp"

namespace filigree {

// A shard file holds `tokens` (u16 or u32), `document_offsets` (u64: where in this shard documents
// begin), `block_checksums` (u64: XXH3-64 of every kChecksumBlock tokens as stored) and says in its
// attributes what it is. Tokens are spooled to a file until their count is known, since contiguous
// datasets cannot grow.
class ShardWriter {
 public:
  struct Options {
    std::filesystem::path folder;  // exists; gets SPLIT_00000.h5, ...
    std::string split;
    std::int64_t shard_bytes = std::int64_t{256} << 20;  // of tokens, at least one block
  };
  ShardWriter(const Options& options, const Tokenizer& tokenizer);

  void begin_document();
  // Ids are within the tokenizer's vocabulary. Documents may run on into the next shard.
  void append(std::span<const std::int32_t> ids);
  // The finished shards; text_bytes is left to the caller. Nothing may follow.
  SplitEntry finish();

 private:
  void flush_block();
  void finish_shard();
  ShardEntry write_shard(const std::filesystem::path& path) const;
  void copy_spool(const PosixFile& target, std::int64_t offset) const;

  Options options_;
  std::string tokenizer_hash_;
  std::int64_t vocabulary_, element_bytes_, shard_tokens_;
  SplitEntry split_;
  std::filesystem::path spool_path_;
  std::optional<PosixFile> spool_;
  std::vector<std::int32_t> block_;                 // tokens not in the spool yet
  std::int64_t spooled_ = 0;                        // tokens of this shard in the spool
  std::vector<std::uint64_t> offsets_, checksums_;  // of this shard
};

// Hash of a file's bytes except [skip_begin, skip_end).
std::string metadata_hash(const PosixFile& file, std::int64_t skip_begin, std::int64_t skip_end);

// Tokens as a shard stores them, and back. `stored` has ids.size() elements of `element_bytes`.
void store_tokens(std::span<const std::int32_t> ids, std::int64_t element_bytes, std::byte* stored);
void load_tokens(const std::byte* stored, std::int64_t element_bytes, std::span<std::int32_t> ids);

}  // namespace filigree
