#include "data_pipeline/inspect.hpp"

#include <algorithm>

#include "data_pipeline/token_dataset.hpp"
#include "runtime/core/error.hpp"
#include "runtime/storage/hash.hpp"

namespace filigree {
namespace {

// A folder with one shard of one split: what TokenDataset says of it concerns this shard alone.
Manifest only_shard(const Manifest& manifest, const std::string& split, const ShardEntry& entry) {
  Manifest single = manifest;
  single.splits = {
      {split, {.tokens = entry.tokens, .documents = entry.documents, .shards = {entry}}}};
  return single;
}

std::string problem_of(const std::filesystem::path& folder, const Manifest& manifest,
                       const std::string& split, const ShardEntry& entry) {
  try {
    const TokenDataset dataset =
        TokenDataset::open(folder, only_shard(manifest, split, entry), split);
    std::vector<std::int32_t> ids(static_cast<std::size_t>(kChecksumBlock));
    for (std::int64_t at = 0; at < entry.tokens; at += kChecksumBlock) {
      const std::int64_t count = std::min(kChecksumBlock, entry.tokens - at);
      dataset.read(at, std::span(ids).first(static_cast<std::size_t>(count)));
    }
    if (hash128_of_file(folder / entry.file) != entry.hash) {
      return "its hash is not the one that the manifest lists";
    }
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

}  // namespace

bool ShardFolderReport::intact() const {
  return std::all_of(shards.begin(), shards.end(),
                     [](const ShardCheck& check) { return check.problem.empty(); });
}

ShardFolderReport inspect_shards(const std::filesystem::path& folder, std::int64_t text_tokens,
                                 const std::function<void(std::int64_t, std::int64_t)>& done) {
  ShardFolderReport report{.manifest = read_manifest(folder)};
  const Tokenizer tokenizer = tokenizer_of(folder);
  std::int64_t total = 0, bytes = 0;
  for (const auto& [name, split] : report.manifest.splits) {
    for (const ShardEntry& entry : split.shards) total += entry.bytes;
  }
  for (const auto& [name, split] : report.manifest.splits) {
    for (const ShardEntry& entry : split.shards) {
      report.shards.push_back({name, entry, problem_of(folder, report.manifest, name, entry)});
      bytes += entry.bytes;
      done(bytes, total);
    }
    try {
      const TokenDataset dataset = TokenDataset::open(folder, name);
      std::vector<std::int32_t> ids(
          static_cast<std::size_t>(std::min(text_tokens, dataset.tokens())));
      dataset.read(0, ids);
      report.first_text[name] = tokenizer.decode(ids);
    } catch (const UserError&) {
      // Named above with its shard.
    }
  }
  return report;
}

}  // namespace filigree
