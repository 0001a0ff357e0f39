#include "data_pipeline/token_dataset.hpp"

#include <fstream>
#include <thread>

#include "data_pipeline/inspect.hpp"
#include "runtime/storage/atomic_file.hpp"
#include "runtime/storage/hash.hpp"
#include "tests/data_pipeline/shards_fixture.hpp"

namespace filigree {
namespace {

using test::mentions;
using test::user_error;

class TokenDatasetTest : public test::ShardsTest {
 protected:
  static std::vector<std::int32_t> all_tokens(const TokenDataset& dataset) {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(dataset.tokens()), -1);
    dataset.read(0, ids);
    return ids;
  }
  static void flip(const std::filesystem::path& path, std::int64_t byte) {
    std::string bytes = read_file(path);
    bytes[static_cast<std::size_t>(byte)] ^= 0x10;
    std::ofstream(path, std::ios::binary) << bytes;
  }
  static std::string open_error(const std::filesystem::path& folder) {
    return user_error([&] { TokenDataset::open(folder, "train"); });
  }
  // Changes the manifest and gives it the hash of its new content, as an editor with our code
  // would.
  static void edit_manifest(const std::filesystem::path& folder,
                            const std::function<void(nlohmann::json&)>& edit) {
    auto json = nlohmann::json::parse(read_file(folder / kDatasetManifestName));
    edit(json);
    json.erase("hash");
    json["hash"] = hash128(json.dump());
    write_file_atomically(folder / kDatasetManifestName, json.dump());
  }
};

TEST_F(TokenDatasetTest, AnyRangeIsTheSameTokensOverShardBorders) {
  const auto folder = make_shards();
  const TokenDataset dataset = TokenDataset::open(folder, "train");
  ASSERT_GE(read_manifest(folder).splits.at("train").shards.size(), 3u);
  const std::vector<std::int32_t> all = all_tokens(dataset);
  for (const std::int64_t begin : {0, 1, 8190, 8191, 8192, 16383, 16384, 20000}) {
    for (const std::int64_t count : {0, 1, 2, 257, 8192, 8193, 20000}) {
      if (begin + count > dataset.tokens()) continue;
      // A dataset that has verified nothing yet, and one that has verified everything.
      for (const TokenDataset& reader : {TokenDataset::open(folder, "train"), dataset}) {
        std::vector<std::int32_t> part(static_cast<std::size_t>(count), -1);
        reader.read(begin, part);
        ASSERT_TRUE(std::equal(part.begin(), part.end(), all.begin() + begin))
            << count << " tokens from " << begin;
      }
    }
  }
  std::vector<std::int32_t> too_many(2);
  EXPECT_THROW(dataset.read(dataset.tokens() - 1, too_many), InternalError);
}

TEST_F(TokenDatasetTest, ThreadsReadTheSame) {
  const auto folder = make_shards();
  const std::vector<std::int32_t> all = all_tokens(TokenDataset::open(folder, "train"));
  const TokenDataset dataset = TokenDataset::open(folder, "train");
  std::vector<std::thread> threads;
  std::array<bool, 4> equal{};
  for (std::size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] { equal[t] = all_tokens(dataset) == all; });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(equal, (std::array<bool, 4>{true, true, true, true}));
}

TEST_F(TokenDatasetTest, ATruncatedShardIsNamed) {
  const auto folder = make_shards();
  const auto shard = folder / "train_00001.h5";
  const auto size = std::filesystem::file_size(shard);
  std::filesystem::resize_file(shard, size - 1);
  EXPECT_TRUE(
      mentions(open_error(folder), {"train_00001.h5", "truncated", str(size - 1), str(size)}));
  std::filesystem::resize_file(shard, 0);
  EXPECT_TRUE(mentions(open_error(folder), {"train_00001.h5", "truncated"}));
}

TEST_F(TokenDatasetTest, AMissingShardIsNamed) {
  const auto folder = make_shards();
  std::filesystem::remove(folder / "train_00002.h5");
  EXPECT_TRUE(mentions(open_error(folder), {"train_00002.h5", "missing"}));
  EXPECT_TRUE(mentions(user_error([&] { TokenDataset::open(folder / "none", "train"); }),
                       {"none", kDatasetManifestName}));
  EXPECT_TRUE(mentions(user_error([&] { TokenDataset::open(folder, "test"); }),
                       {"'test'", "train, validation"}));
}

TEST_F(TokenDatasetTest, AFlippedTokenBitIsNamedWithItsBlock) {
  const auto folder = make_shards();
  const ShardEntry shard = read_manifest(folder).splits.at("train").shards.at(1);
  flip(folder / shard.file, shard.tokens_offset + 2 * 8192 + 100);
  const TokenDataset dataset = TokenDataset::open(folder, "train");
  std::vector<std::int32_t> ids(8192);
  dataset.read(16384, ids);  // the block before is good
  std::vector<std::int32_t> one(1);
  const std::string error = user_error([&] { dataset.read(16384 + 8192 + 5000, one); });
  EXPECT_TRUE(mentions(error, {shard.file, "block 1 ", "tokens 8192 to 16383", "checksum"}));
}

// Every byte that is not a token is covered by a hash in the manifest, before libhdf5 sees it.
TEST_F(TokenDatasetTest, AFlippedBitOutsideTheTokensIsNamed) {
  const auto folder = make_shards();
  const ShardEntry shard = read_manifest(folder).splits.at("train").shards.at(0);
  for (const std::int64_t byte : {std::int64_t{0}, std::int64_t{9}, std::int64_t{60},
                                  std::int64_t{900}, shard.tokens_offset - 1}) {
    flip(folder / shard.file, byte);
    EXPECT_TRUE(mentions(open_error(folder), {shard.file, "damaged"})) << "byte " << byte;
    flip(folder / shard.file, byte);
  }
  EXPECT_EQ(all_tokens(TokenDataset::open(folder, "train")).size(),
            static_cast<std::size_t>(read_manifest(folder).splits.at("train").tokens));
}

TEST_F(TokenDatasetTest, AnotherTokenizerIsRefused) {
  const auto folder = make_shards(), other = make_shards("other", 5000);
  const auto copy = std::filesystem::copy_options::overwrite_existing;
  std::filesystem::copy_file(other / kTokenizerName, folder / kTokenizerName, copy);
  EXPECT_TRUE(mentions(open_error(folder), {kTokenizerName, "not the one"}));
  EXPECT_TRUE(mentions(user_error([&] { tokenizer_of(folder); }), {kTokenizerName, "not the one"}));
}

TEST_F(TokenDatasetTest, AShardOrManifestOfAnotherFolderIsRefused) {
  const auto folder = make_shards(), other = make_shards("other", 5000);
  const auto copy = std::filesystem::copy_options::overwrite_existing;
  std::filesystem::copy_file(folder / "train_00000.h5", folder / "backup");
  std::filesystem::copy_file(other / "train_00000.h5", folder / "train_00000.h5", copy);
  EXPECT_TRUE(mentions(open_error(folder), {"train_00000.h5", "belongs to another folder"}));
  std::filesystem::rename(folder / "backup", folder / "train_00000.h5");
  // Shards of one folder in the wrong order.
  std::filesystem::copy_file(folder / "train_00001.h5", folder / "train_00000.h5", copy);
  EXPECT_TRUE(mentions(open_error(folder), {"train_00000.h5"}));

  std::filesystem::copy_file(other / kDatasetManifestName, folder / kDatasetManifestName, copy);
  EXPECT_TRUE(mentions(open_error(folder), {kTokenizerName}));
  std::filesystem::copy_file(other / kTokenizerName, folder / kTokenizerName, copy);
  EXPECT_TRUE(mentions(open_error(folder), {"train_00000.h5"}));
}

// Even when every hash has been forged, the shard's own attributes tell.
TEST_F(TokenDatasetTest, AttributesAreComparedWithTheManifest) {
  const auto folder = make_shards();
  edit_manifest(folder, [](nlohmann::json& json) {
    std::swap(json["splits"]["train"], json["splits"]["validation"]);
  });
  EXPECT_TRUE(mentions(open_error(folder), {"validation_00000.h5", "its split is validation"}));
}

TEST_F(TokenDatasetTest, AChangedManifestIsRefused) {
  const auto folder = make_shards();
  std::string text = read_file(folder / kDatasetManifestName);
  const std::string good = text;
  text.replace(text.find("\"tokens\": "), 11, "\"tokens\": 9");
  write_file_atomically(folder / kDatasetManifestName, text);
  EXPECT_TRUE(mentions(open_error(folder), {kDatasetManifestName, "its own hash"}));
  write_file_atomically(folder / kDatasetManifestName, good.substr(0, good.size() / 2));
  EXPECT_TRUE(mentions(open_error(folder), {kDatasetManifestName, "not a JSON object"}));
  write_file_atomically(folder / kDatasetManifestName, "{\"a\": 1}");
  EXPECT_TRUE(mentions(open_error(folder), {kDatasetManifestName, "format"}));
  write_file_atomically(folder / kDatasetManifestName, good);
  edit_manifest(folder, [](nlohmann::json& json) { json["version"] = 99; });
  EXPECT_TRUE(mentions(open_error(folder), {kDatasetManifestName, "version 99", "version 1"}));
  write_file_atomically(folder / kDatasetManifestName, good);
  edit_manifest(folder, [](nlohmann::json& json) { json["splits"]["train"].erase("tokens"); });
  EXPECT_TRUE(mentions(open_error(folder), {kDatasetManifestName, "tokens"}));
}

TEST_F(TokenDatasetTest, InspectionFindsWhatIsDamagedAndOnlyThat) {
  const auto folder = make_shards();
  std::int64_t done = 0, total = -1;
  const auto note = [&](std::int64_t d, std::int64_t t) { done = d, total = t; };
  const ShardFolderReport good = inspect_shards(folder, 8, note);
  EXPECT_TRUE(good.intact());
  EXPECT_EQ(done, total);
  const TokenDataset train = TokenDataset::open(folder, "train");
  std::vector<std::int32_t> first(8);
  train.read(0, first);
  EXPECT_EQ(good.first_text.at("train"), tokenizer_of(folder).decode(first));

  const ShardEntry shard = good.manifest.splits.at("train").shards.at(1);
  flip(folder / shard.file, shard.tokens_offset + 3);
  std::filesystem::remove(folder / "train_00002.h5");
  const ShardFolderReport bad = inspect_shards(folder, 8, note);
  EXPECT_FALSE(bad.intact());
  ASSERT_EQ(bad.shards.size(), good.shards.size());
  for (const ShardCheck& check : bad.shards) {
    if (check.entry.file == shard.file) {
      EXPECT_TRUE(mentions(check.problem, {shard.file, "block 0 "}));
    } else if (check.entry.file == "train_00002.h5") {
      EXPECT_TRUE(mentions(check.problem, {"train_00002.h5", "missing"}));
    } else {
      EXPECT_EQ(check.problem, "");
    }
  }
}

}  // namespace
}  // namespace filigree
