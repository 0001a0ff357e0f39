// One split (train, validation) of a folder of token shards.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "data_pipeline/manifest.hpp"
#include "data_pipeline/tokenizer.hpp"

namespace filigree {

class TokenDataset {
 public:
  // Opens every shard of the split named in the folder's manifest and checks sizes, hashes of
  // everything but the token values, and headers against it. Throws UserError naming the file and
  // the thing that is wrong (missing, truncated, of another tokenizer, ...). Reads less than a
  // hundredth of the bytes.
  static TokenDataset open(const std::filesystem::path& folder, const std::string& split);

  // The same against a manifest that has been read already.
  static TokenDataset open(const std::filesystem::path& folder, const Manifest& manifest,
                           const std::string& split);

  std::int64_t tokens() const;
  std::int64_t documents() const;
  std::int64_t text_bytes() const;  // UTF-8 bytes of the text that the tokens came from
  std::int64_t vocabulary() const;
  std::int32_t end_of_document() const;  // the id after every document
  const std::string& tokenizer_hash() const;
  const std::string& hash() const;  // identity of the split: hash over the shards' hashes
  std::filesystem::path folder() const;

  // Copies tokens [begin, begin + out.size()) of the split, over shard borders. A block of tokens
  // is checked against its checksum when it is first touched; a mismatch is a UserError that names
  // file and block. Thread-safe; pread only.
  void read(std::int64_t begin, std::span<std::int32_t> out) const;

 private:
  struct Shard;
  struct State;
  std::shared_ptr<const State> state_;
};

// The tokenizer stored in a shard folder, checked against the manifest.
Tokenizer tokenizer_of(const std::filesystem::path& folder);

}  // namespace filigree
