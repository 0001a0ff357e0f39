#include "data_pipeline/manifest.hpp"

#include "runtime/core/error.hpp"
#include "runtime/storage/atomic_file.hpp"
#include "runtime/storage/hash.hpp"

namespace filigree {
namespace {

using nlohmann::json;

constexpr const char* kFormat = "filigree token shards";

json to_json(const ShardEntry& shard) {
  return {{"file", shard.file},
          {"bytes", shard.bytes},
          {"tokens", shard.tokens},
          {"documents", shard.documents},
          {"tokens_offset", shard.tokens_offset},
          {"hash", shard.hash},
          {"metadata_hash", shard.metadata_hash}};
}

ShardEntry shard_from_json(const json& value) {
  ShardEntry shard;
  value.at("file").get_to(shard.file);
  value.at("bytes").get_to(shard.bytes);
  value.at("tokens").get_to(shard.tokens);
  value.at("documents").get_to(shard.documents);
  value.at("tokens_offset").get_to(shard.tokens_offset);
  value.at("hash").get_to(shard.hash);
  value.at("metadata_hash").get_to(shard.metadata_hash);
  return shard;
}

json to_json(const Manifest& manifest) {
  json splits = json::object();
  for (const auto& [name, split] : manifest.splits) {
    json shards = json::array();
    for (const ShardEntry& shard : split.shards) shards.push_back(to_json(shard));
    splits[name] = {{"tokens", split.tokens},
                    {"documents", split.documents},
                    {"text_bytes", split.text_bytes},
                    {"shards", shards}};
  }
  return {{"format", kFormat},
          {"version", kShardFormatVersion},
          {"tokenizer",
           {{"file", kTokenizerName},
            {"hash", manifest.tokenizer_hash},
            {"vocabulary", manifest.vocabulary},
            {"end_of_document", manifest.end_of_document}}},
          {"splits", splits},
          {"options", manifest.options}};
}

Manifest from_json(const json& value) {
  Manifest manifest;
  const json& tokenizer = value.at("tokenizer");
  tokenizer.at("hash").get_to(manifest.tokenizer_hash);
  tokenizer.at("vocabulary").get_to(manifest.vocabulary);
  tokenizer.at("end_of_document").get_to(manifest.end_of_document);
  manifest.options = value.at("options");
  for (const auto& [name, entry] : value.at("splits").items()) {
    SplitEntry& split = manifest.splits[name];
    entry.at("tokens").get_to(split.tokens);
    entry.at("documents").get_to(split.documents);
    entry.at("text_bytes").get_to(split.text_bytes);
    for (const json& shard : entry.at("shards")) split.shards.push_back(shard_from_json(shard));
  }
  return manifest;
}

// nlohmann's objects are sorted by key, so equal content has equal text.
std::string content_hash(json value) {
  value.erase("hash");
  return hash128(value.dump());
}

}  // namespace

std::string Manifest::split_hash(const std::string& split) const {
  std::string all = tokenizer_hash;
  for (const ShardEntry& shard : splits.at(split).shards) all += shard.hash;
  return hash128(all);
}

void write_manifest(const std::filesystem::path& folder, const Manifest& manifest) {
  json value = to_json(manifest);
  value["hash"] = content_hash(value);
  write_file_atomically(folder / kDatasetManifestName, value.dump(2) + "\n");
}

Manifest read_manifest(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / kDatasetManifestName;
  if (!std::filesystem::exists(path)) {
    throw UserError(str(folder.string(), " is no folder of token shards: it has no ",
                        kDatasetManifestName,
                        std::filesystem::exists(folder) ? "" : " (nor does the folder exist)",
                        "; make one with `filigree data tokenize`"));
  }
  const json value = json::parse(read_file(path, std::int64_t{256} << 20), nullptr, false);
  if (value.is_discarded() || !value.is_object()) {
    throw UserError(str(path.string(), ": not a JSON object; the file is damaged"));
  }
  if (value.value("format", json()) != kFormat) {
    throw UserError(
        str(path.string(), ": not a manifest of token shards ('format' is not '", kFormat, "')"));
  }
  if (value.value("version", json()) != kShardFormatVersion) {
    throw UserError(str(path.string(), ": format version ", value.value("version", json()).dump(),
                        ", this program reads version ", kShardFormatVersion,
                        "; make the shards again with `filigree data tokenize`"));
  }
  if (value.value("hash", json()) != content_hash(value)) {
    throw UserError(
        str(path.string(), ": its content does not match its own hash; it was damaged or edited"));
  }
  try {
    return from_json(value);
  } catch (const json::exception& error) {
    throw UserError(str(path.string(), ": ", error.what()));
  }
}

}  // namespace filigree
