#include "data_pipeline/shard_writer.hpp"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>

#include "runtime/core/error.hpp"
#include "runtime/storage/hash.hpp"
#include "runtime/storage/hdf5_file.hpp"

namespace filigree {
namespace {

// Values are moved as they lie in memory.
static_assert(std::endian::native == std::endian::little, "shards are little-endian");

constexpr std::int64_t kPiece = std::int64_t{1} << 20;

void hash_range(const PosixFile& file, std::int64_t begin, std::int64_t end, Hasher128& hasher) {
  std::vector<char> piece(
      static_cast<std::size_t>(std::clamp(end - begin, std::int64_t{0}, kPiece)));
  for (; begin < end; begin += kPiece) {
    const std::int64_t bytes = std::min(kPiece, end - begin);
    file.read_at(begin, piece.data(), bytes);
    hasher.update(piece.data(), static_cast<std::size_t>(bytes));
  }
}

void write_values(const PosixFile& file, const Hdf5Dataset& dataset,
                  const std::vector<std::uint64_t>& values) {
  FILIGREE_CHECK_EQ(dataset.bytes, static_cast<std::int64_t>(values.size() * 8), "bytes");
  file.write_at(dataset.file_offset, values.data(), dataset.bytes);
}

}  // namespace

std::string metadata_hash(const PosixFile& file, std::int64_t skip_begin, std::int64_t skip_end) {
  Hasher128 hasher;
  hash_range(file, 0, skip_begin, hasher);
  hash_range(file, skip_end, file.size(), hasher);
  return hasher.digest();
}

void store_tokens(std::span<const std::int32_t> ids, std::int64_t element_bytes,
                  std::byte* stored) {
  if (element_bytes == 4) {
    std::memcpy(stored, ids.data(), ids.size_bytes());
    return;
  }
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const auto value = static_cast<std::uint16_t>(ids[i]);
    std::memcpy(stored + 2 * i, &value, sizeof value);
  }
}

void load_tokens(const std::byte* stored, std::int64_t element_bytes, std::span<std::int32_t> ids) {
  if (element_bytes == 4) {
    std::memcpy(ids.data(), stored, ids.size_bytes());
    return;
  }
  for (std::size_t i = 0; i < ids.size(); ++i) {
    std::uint16_t value = 0;
    std::memcpy(&value, stored + 2 * i, sizeof value);
    ids[i] = value;
  }
}

ShardWriter::ShardWriter(const Options& options, const Tokenizer& tokenizer)
    : options_(options),
      tokenizer_hash_(tokenizer.hash()),
      vocabulary_(tokenizer.vocabulary()),
      element_bytes_(Manifest{.vocabulary = vocabulary_}.element_bytes()),
      shard_tokens_(options.shard_bytes / (element_bytes_ * kChecksumBlock) * kChecksumBlock),
      spool_path_(options.folder / (options.split + ".spool")) {
  FILIGREE_CHECK(shard_tokens_ > 0, "shards of ", options.shard_bytes, " bytes");
  block_.reserve(static_cast<std::size_t>(kChecksumBlock));
}

void ShardWriter::begin_document() {
  if (spooled_ + static_cast<std::int64_t>(block_.size()) == shard_tokens_) finish_shard();
  offsets_.push_back(static_cast<std::uint64_t>(spooled_) + block_.size());
}

void ShardWriter::append(std::span<const std::int32_t> ids) {
  while (!ids.empty()) {
    if (spooled_ == shard_tokens_) finish_shard();
    const std::size_t room = static_cast<std::size_t>(kChecksumBlock) - block_.size();
    const std::size_t count = std::min(room, ids.size());
    block_.insert(block_.end(), ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(count));
    ids = ids.subspan(count);
    if (count == room) flush_block();
  }
}

void ShardWriter::flush_block() {
  if (block_.empty()) return;
  if (!spool_) spool_ = PosixFile::create(spool_path_);
  std::vector<std::byte> stored(block_.size() * static_cast<std::size_t>(element_bytes_));
  store_tokens(block_, element_bytes_, stored.data());
  checksums_.push_back(hash64(stored.data(), stored.size()));
  spool_->write_at(spooled_ * element_bytes_, stored.data(),
                   static_cast<std::int64_t>(stored.size()));
  spooled_ += static_cast<std::int64_t>(block_.size());
  block_.clear();
}

SplitEntry ShardWriter::finish() {
  flush_block();
  if (spooled_ > 0) finish_shard();
  if (spool_) spool_->close();
  spool_.reset();
  std::filesystem::remove(spool_path_);
  return std::move(split_);
}

void ShardWriter::finish_shard() {
  flush_block();
  char number[16];
  std::snprintf(number, sizeof number, "_%05zu.h5", split_.shards.size());
  const ShardEntry shard = write_shard(options_.folder / (options_.split + number));
  split_.tokens += shard.tokens;
  split_.documents += shard.documents;
  split_.shards.push_back(shard);
  spooled_ = 0;
  offsets_.clear();
  checksums_.clear();
}

ShardEntry ShardWriter::write_shard(const std::filesystem::path& path) const {
  Hdf5File skeleton = Hdf5File::create(path);
  const auto count = [](const auto& values) { return static_cast<std::int64_t>(values.size()); };
  const Hdf5Type type = element_bytes_ == 2 ? Hdf5Type::u16 : Hdf5Type::u32;
  const Hdf5Dataset offsets =
      skeleton.create_dataset("document_offsets", Hdf5Type::u64, {count(offsets_)});
  const Hdf5Dataset checksums =
      skeleton.create_dataset("block_checksums", Hdf5Type::u64, {count(checksums_)});
  const Hdf5Dataset tokens = skeleton.create_dataset("tokens", type, {spooled_});
  skeleton.write_attribute("/", "format_version", kShardFormatVersion);
  skeleton.write_attribute("/", "creator", std::string("filigree data tokenize"));
  skeleton.write_attribute("/", "split", options_.split);
  skeleton.write_attribute("/", "tokenizer_hash", tokenizer_hash_);
  skeleton.write_attribute("/", "vocabulary", vocabulary_);
  skeleton.write_attribute("/", "tokens", spooled_);
  skeleton.write_attribute("/", "documents", count(offsets_));
  skeleton.write_attribute("/", "checksum_block", kChecksumBlock);
  skeleton.close();

  PosixFile file = PosixFile::open_for_writing(path);
  file.allocate(file.size());
  write_values(file, offsets, offsets_);
  write_values(file, checksums, checksums_);
  copy_spool(file, tokens.file_offset);
  file.sync();

  ShardEntry shard;
  shard.file = path.filename().string();
  shard.bytes = file.size();
  shard.tokens = spooled_;
  shard.documents = count(offsets_);
  shard.tokens_offset = tokens.file_offset;
  shard.hash = hash128_of_file(path);
  shard.metadata_hash = metadata_hash(file, tokens.file_offset, tokens.file_offset + tokens.bytes);
  file.close();
  return shard;
}

void ShardWriter::copy_spool(const PosixFile& target, std::int64_t offset) const {
  const std::int64_t total = spooled_ * element_bytes_;
  std::vector<char> piece(static_cast<std::size_t>(std::min(total, kPiece)));
  for (std::int64_t done = 0; done < total; done += kPiece) {
    const std::int64_t bytes = std::min(kPiece, total - done);
    spool_->read_at(done, piece.data(), bytes);
    target.write_at(offset + done, piece.data(), bytes);
  }
}

}  // namespace filigree
