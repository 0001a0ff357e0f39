// Checks everything in a folder of token shards.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "data_pipeline/manifest.hpp"

namespace filigree {

struct ShardCheck {
  std::string split;
  ShardEntry entry;
  std::string problem;  // "": every byte is as it was written
};

struct ShardFolderReport {
  Manifest manifest;
  std::vector<ShardCheck> shards;  // in the order of the manifest
  std::map<std::string, std::string>
      first_text;  // split -> its first tokens decoded, where they can be read
  bool intact() const;
};

// Reads every byte. `done(bytes, total)` is called after each shard. Damaged shards are reported;
// throws UserError only when manifest or tokenizer cannot be used.
ShardFolderReport inspect_shards(const std::filesystem::path& folder, std::int64_t text_tokens,
                                 const std::function<void(std::int64_t, std::int64_t)>& done);

}  // namespace filigree
