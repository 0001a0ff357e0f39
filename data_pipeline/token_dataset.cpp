#include "data_pipeline/token_dataset.hpp"

#include <algorithm>
#include <atomic>
#include <vector>

#include "data_pipeline/shard_writer.hpp"
#include "runtime/core/error.hpp"
#include "runtime/storage/hash.hpp"
#include "runtime/storage/hdf5_file.hpp"
#include "runtime/storage/posix_file.hpp"

namespace filigree {

struct TokenDataset::Shard {
  PosixFile file;
  std::int64_t begin = 0;  // first token of the split that is in this shard
  std::int64_t tokens = 0;
  std::int64_t element_bytes = 0;
  std::int64_t offset = 0;  // of the values in the file
  std::int64_t vocabulary = 0;
  std::vector<std::uint64_t> checksums;
  // Set once a block has been found good; a lost race costs one more hash.
  mutable std::vector<std::atomic<bool>> verified;

  static Shard open(const std::filesystem::path& folder, const Manifest& manifest,
                    const std::string& split, const ShardEntry& entry, std::int64_t begin);
  void read(std::int64_t at, std::span<std::int32_t> out) const;

 private:
  void read_block(std::int64_t block, std::vector<std::byte>& stored) const;
};

struct TokenDataset::State {
  std::filesystem::path folder;
  Manifest manifest;
  SplitEntry split;
  std::string hash;
  std::vector<Shard> shards;
};

namespace {

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& what) {
  throw UserError(str("shard ", path.string(), ": ", what));
}

template <class Value>
void expect(const std::filesystem::path& path, const char* what, const Value& found,
            const Value& expected) {
  if (found == expected) return;
  refuse(path, str(what, " is ", found, ", the manifest says ", expected));
}

// Before libhdf5 sees the file: size and everything outside the token values are as they were
// written.
PosixFile open_intact(const std::filesystem::path& path, const ShardEntry& entry,
                      std::int64_t token_bytes) {
  if (!std::filesystem::exists(path)) {
    refuse(path, str("missing; ", kDatasetManifestName,
                     " lists it: copy it here or make the shards again"));
  }
  PosixFile file = PosixFile::open_for_reading(path);
  const std::int64_t size = file.size();
  if (size < entry.bytes) {
    refuse(path, str("truncated: ", size, " bytes of ", entry.bytes, "; copy it again"));
  }
  expect(path, "its size in bytes", size, entry.bytes);
  if (entry.tokens_offset < 0 || entry.tokens_offset + token_bytes > size) {
    refuse(path, "its token values would lie outside the file; the manifest is not of this shard");
  }
  const std::string hash =
      metadata_hash(file, entry.tokens_offset, entry.tokens_offset + token_bytes);
  if (hash != entry.metadata_hash) {
    refuse(path,
           "its header, offsets or checksums are not those that the manifest lists; the file is "
           "damaged "
           "or belongs to another folder");
  }
  return file;
}

Tokenizer matching_tokenizer(const std::filesystem::path& folder, const Manifest& manifest) {
  const Tokenizer tokenizer = Tokenizer::load(folder / kTokenizerName);
  if (tokenizer.hash() != manifest.tokenizer_hash) {
    throw UserError(str("tokenizer ", (folder / kTokenizerName).string(),
                        ": it is not the one these "
                        "shards were made with (hash ",
                        tokenizer.hash(), ", the manifest says ", manifest.tokenizer_hash,
                        "); put the original back"));
  }
  return tokenizer;
}

}  // namespace

TokenDataset::Shard TokenDataset::Shard::open(const std::filesystem::path& folder,
                                              const Manifest& manifest, const std::string& split,
                                              const ShardEntry& entry, std::int64_t begin) {
  const std::filesystem::path path = folder / entry.file;
  const std::int64_t element_bytes = manifest.element_bytes();
  PosixFile file = open_intact(path, entry, entry.tokens * element_bytes);

  const Hdf5File hdf5 = Hdf5File::open(path);
  expect(path, "its format version", hdf5.integer_attribute("/", "format_version"),
         kShardFormatVersion);
  expect(path, "its split", hdf5.text_attribute("/", "split"), split);
  expect(path, "its tokenizer", hdf5.text_attribute("/", "tokenizer_hash"),
         manifest.tokenizer_hash);
  expect(path, "its vocabulary", hdf5.integer_attribute("/", "vocabulary"), manifest.vocabulary);
  expect(path, "its checksum block", hdf5.integer_attribute("/", "checksum_block"), kChecksumBlock);
  const Hdf5Dataset tokens = hdf5.dataset("tokens");
  const Hdf5Dataset checksums = hdf5.dataset("block_checksums");
  const std::int64_t blocks = (entry.tokens + kChecksumBlock - 1) / kChecksumBlock;
  expect(path, "its element type", name_of(tokens.type),
         name_of(element_bytes == 2 ? Hdf5Type::u16 : Hdf5Type::u32));
  expect(path, "the size of its tokens in bytes", tokens.bytes, entry.tokens * element_bytes);
  expect(path, "the place of its tokens", tokens.file_offset, entry.tokens_offset);
  expect(path, "its number of checksums", checksums.bytes, blocks * 8);

  std::vector<std::uint64_t> values(static_cast<std::size_t>(blocks));
  file.read_at(checksums.file_offset, values.data(), checksums.bytes);
  return {.file = std::move(file),
          .begin = begin,
          .tokens = entry.tokens,
          .element_bytes = element_bytes,
          .offset = tokens.file_offset,
          .vocabulary = manifest.vocabulary,
          .checksums = std::move(values),
          .verified = std::vector<std::atomic<bool>>(static_cast<std::size_t>(blocks))};
}

void TokenDataset::Shard::read_block(std::int64_t block, std::vector<std::byte>& stored) const {
  const std::int64_t first = block * kChecksumBlock;
  const std::int64_t bytes = std::min(kChecksumBlock, tokens - first) * element_bytes;
  stored.resize(static_cast<std::size_t>(bytes));
  file.read_at(offset + first * element_bytes, stored.data(), bytes);
  if (hash64(stored.data(), stored.size()) != checksums[static_cast<std::size_t>(block)]) {
    refuse(file.path(),
           str("block ", block, " (tokens ", first, " to ", first + bytes / element_bytes - 1,
               ") does not match its checksum; the file is damaged: copy it again"));
  }
  std::vector<std::int32_t> ids(static_cast<std::size_t>(bytes / element_bytes));
  load_tokens(stored.data(), element_bytes, ids);
  const auto [low, high] = std::minmax_element(ids.begin(), ids.end());
  if (*low < 0 || *high >= vocabulary) {
    refuse(file.path(), str("block ", block, " holds the id ", *low < 0 ? *low : *high,
                            " outside the vocabulary of ", vocabulary));
  }
  verified[static_cast<std::size_t>(block)].store(true, std::memory_order_relaxed);
}

void TokenDataset::Shard::read(std::int64_t at, std::span<std::int32_t> out) const {
  std::vector<std::byte> stored;
  while (!out.empty()) {
    const std::int64_t block = at / kChecksumBlock, within = at % kChecksumBlock;
    const std::int64_t count =
        std::min(static_cast<std::int64_t>(out.size()), kChecksumBlock - within);
    const std::byte* source = nullptr;
    if (verified[static_cast<std::size_t>(block)].load(std::memory_order_relaxed)) {
      stored.resize(static_cast<std::size_t>(count * element_bytes));
      file.read_at(offset + at * element_bytes, stored.data(), count * element_bytes);
      source = stored.data();
    } else {
      read_block(block, stored);
      source = stored.data() + within * element_bytes;
    }
    load_tokens(source, element_bytes, out.first(static_cast<std::size_t>(count)));
    out = out.subspan(static_cast<std::size_t>(count));
    at += count;
  }
}

TokenDataset TokenDataset::open(const std::filesystem::path& folder, const std::string& split) {
  const Manifest manifest = read_manifest(folder);
  matching_tokenizer(folder, manifest);
  return open(folder, manifest, split);
}

TokenDataset TokenDataset::open(const std::filesystem::path& folder, const Manifest& manifest,
                                const std::string& split) {
  auto state = std::make_shared<State>();
  state->folder = folder;
  state->manifest = manifest;
  const auto found = state->manifest.splits.find(split);
  if (found == state->manifest.splits.end()) {
    std::string names;
    for (const auto& [name, entry] : state->manifest.splits)
      names += (names.empty() ? "" : ", ") + name;
    throw UserError(str(folder.string(), " has no split '", split, "'; it has: ", names));
  }
  state->split = found->second;
  state->hash = state->manifest.split_hash(split);
  std::int64_t begin = 0, documents = 0;
  for (const ShardEntry& entry : state->split.shards) {
    state->shards.push_back(Shard::open(folder, state->manifest, split, entry, begin));
    begin += entry.tokens;
    documents += entry.documents;
  }
  expect(folder / kDatasetManifestName, "the sum of its shards' tokens", begin,
         state->split.tokens);
  expect(folder / kDatasetManifestName, "the sum of its shards' documents", documents,
         state->split.documents);
  TokenDataset dataset;
  dataset.state_ = std::move(state);
  return dataset;
}

void TokenDataset::read(std::int64_t begin, std::span<std::int32_t> out) const {
  const auto count = static_cast<std::int64_t>(out.size());
  FILIGREE_CHECK(begin >= 0 && begin + count <= tokens(), "tokens ", begin, " to ", begin + count,
                 " of ", tokens());
  const std::vector<Shard>& shards = state_->shards;
  auto shard = std::upper_bound(shards.begin(), shards.end(), begin,
                                [](std::int64_t at, const Shard& s) { return at < s.begin; });
  if (shard != shards.begin()) --shard;
  while (!out.empty()) {
    const std::int64_t within = begin - shard->begin;
    const std::int64_t part =
        std::min(static_cast<std::int64_t>(out.size()), shard->tokens - within);
    shard->read(within, out.first(static_cast<std::size_t>(part)));
    out = out.subspan(static_cast<std::size_t>(part));
    begin += part;
    ++shard;
  }
}

std::int64_t TokenDataset::tokens() const { return state_->split.tokens; }
std::int64_t TokenDataset::documents() const { return state_->split.documents; }
std::int64_t TokenDataset::text_bytes() const { return state_->split.text_bytes; }
std::int64_t TokenDataset::vocabulary() const { return state_->manifest.vocabulary; }
std::int32_t TokenDataset::end_of_document() const {
  return static_cast<std::int32_t>(state_->manifest.end_of_document);
}
const std::string& TokenDataset::tokenizer_hash() const { return state_->manifest.tokenizer_hash; }
const std::string& TokenDataset::hash() const { return state_->hash; }
std::filesystem::path TokenDataset::folder() const { return state_->folder; }

Tokenizer tokenizer_of(const std::filesystem::path& folder) {
  return matching_tokenizer(folder, read_manifest(folder));
}

}  // namespace filigree
