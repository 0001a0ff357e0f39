#include "data_pipeline/batch_loader.hpp"

#include <chrono>
#include <fstream>
#include <map>
#include <thread>

#include "data_pipeline/manifest.hpp"
#include "runtime/storage/atomic_file.hpp"
#include "tests/data_pipeline/shards_fixture.hpp"

namespace filigree {
namespace {

using test::mentions;

constexpr std::int64_t kLength = 50;
constexpr std::uint64_t kSeed = 5;

class BatchLoaderTest : public test::ShardsTest {
 protected:
  void SetUp() override {
    ShardsTest::SetUp();
    shards_ = make_shards();
  }
  TokenDataset dataset() const { return TokenDataset::open(shards_, "train"); }
  BatchLoader loader(const BatchLoader::Options& options) const {
    TokenDataset tokens = dataset();
    const Sampler sampler(window_count(tokens.tokens(), options.length), kSeed);
    return BatchLoader(std::move(tokens), sampler, options);
  }
  static std::vector<std::int32_t> values(const Tensor& tensor) {
    const auto span = tensor.span<std::int32_t>();
    return {span.begin(), span.end()};
  }
  // sample -> its inputs, for `steps` steps of one rank.
  static void collect(BatchLoader& loader, std::int64_t steps,
                      std::map<std::int64_t, std::vector<std::int32_t>>& rows) {
    for (std::int64_t i = 0; i < steps * loader.micro_batches(); ++i) {
      const TokenBatch batch = loader.next();
      const std::vector<std::int32_t> tokens = values(batch.tokens_T);
      ASSERT_EQ(tokens.size(), static_cast<std::size_t>(batch.batch * batch.length));
      for (std::int64_t r = 0; r < batch.batch; ++r) {
        const auto begin = tokens.begin() + r * batch.length;
        const bool is_new = rows.emplace(batch.first_sample + r,
                                         std::vector<std::int32_t>(begin, begin + batch.length))
                                .second;
        ASSERT_TRUE(is_new) << "sample " << batch.first_sample + r << " was delivered twice";
      }
    }
  }

  std::filesystem::path shards_;
};

TEST_F(BatchLoaderTest, RowsAreTheWindowsOfTheSampler) {
  BatchLoader loader = this->loader({.length = kLength,
                                     .global_batch = 4,
                                     .begin = 1,
                                     .end = 4,
                                     .micro_batch = 2,
                                     .first_step = 3});
  const TokenDataset tokens = dataset();
  const Sampler sampler(window_count(tokens.tokens(), kLength), kSeed);
  EXPECT_EQ(loader.micro_batches(), 2);
  for (const std::int64_t first_sample : {13, 15, 17, 19, 21, 23}) {  // 3 * 4 + 1, ...
    const TokenBatch batch = loader.next();
    ASSERT_EQ(batch.first_sample, first_sample);
    ASSERT_EQ(batch.batch, first_sample % 4 == 1 ? 2 : 1);
    ASSERT_EQ(batch.length, kLength);
    std::vector<std::int32_t> inputs, targets;
    for (std::int64_t r = 0; r < batch.batch; ++r) {
      std::vector<std::int32_t> window(kLength + 1);
      tokens.read(sampler.window(first_sample + r) * kLength, window);
      inputs.insert(inputs.end(), window.begin(), window.end() - 1);
      targets.insert(targets.end(), window.begin() + 1, window.end());
    }
    EXPECT_EQ(values(batch.tokens_T), inputs);
    EXPECT_EQ(values(batch.targets_T), targets);
  }
  EXPECT_GE(loader.wait_seconds(), 0.0);
}

TEST_F(BatchLoaderTest, RanksTogetherReadEverySampleOnce) {
  constexpr std::int64_t kGlobalBatch = 7, kSteps = 5;
  std::map<std::int64_t, std::vector<std::int32_t>> alone;
  BatchLoader single = loader({.length = kLength,
                               .global_batch = kGlobalBatch,
                               .begin = 0,
                               .end = kGlobalBatch,
                               .micro_batch = 7});
  collect(single, kSteps, alone);
  ASSERT_EQ(alone.size(), static_cast<std::size_t>(kGlobalBatch * kSteps));
  for (std::int64_t ranks = 1; ranks <= 4; ++ranks) {
    for (const std::int64_t micro_batch : {1, 2, 3}) {
      std::map<std::int64_t, std::vector<std::int32_t>> together;
      for (std::int64_t rank = 0; rank < ranks; ++rank) {
        BatchLoader part = loader({.length = kLength,
                                   .global_batch = kGlobalBatch,
                                   .begin = kGlobalBatch * rank / ranks,
                                   .end = kGlobalBatch * (rank + 1) / ranks,
                                   .micro_batch = micro_batch});
        collect(part, kSteps, together);
      }
      EXPECT_TRUE(together == alone) << ranks << " ranks, micro-batch " << micro_batch;
    }
  }
}

TEST_F(BatchLoaderTest, PrefetchDoesNotChangeTheOrder) {
  std::vector<std::vector<std::int32_t>> first;
  for (const std::int64_t prefetch : {1, 2, 16}) {
    BatchLoader loader = this->loader({.length = kLength,
                                       .global_batch = 5,
                                       .begin = 0,
                                       .end = 5,
                                       .micro_batch = 2,
                                       .prefetch = prefetch});
    std::vector<std::vector<std::int32_t>> order;
    for (int i = 0; i < 30; ++i) order.push_back(values(loader.next().tokens_T));
    if (first.empty()) first = order;
    EXPECT_TRUE(order == first) << "prefetch " << prefetch;
  }
}

TEST_F(BatchLoaderTest, AStartedRunGoesOnWhereItStopped) {
  std::map<std::int64_t, std::vector<std::int32_t>> whole, halves;
  const BatchLoader::Options options{
      .length = kLength, .global_batch = 3, .begin = 0, .end = 3, .micro_batch = 2};
  BatchLoader straight = loader(options);
  collect(straight, 10, whole);
  BatchLoader first = loader(options);
  collect(first, 4, halves);
  BatchLoader::Options later = options;
  later.first_step = 4;
  BatchLoader second = loader(later);
  collect(second, 6, halves);
  EXPECT_TRUE(whole == halves);
}

TEST_F(BatchLoaderTest, EpochsFollowEachOther) {
  const std::int64_t windows = window_count(dataset().tokens(), 2000);
  BatchLoader loader =
      this->loader({.length = 2000, .global_batch = 1, .begin = 0, .end = 1, .micro_batch = 1});
  std::map<std::vector<std::int32_t>, int> seen;
  for (std::int64_t i = 0; i < 3 * windows; ++i) ++seen[values(loader.next().tokens_T)];
  EXPECT_EQ(seen.size(), static_cast<std::size_t>(windows));
  for (const auto& [window, count] : seen) EXPECT_EQ(count, 3);
}

TEST_F(BatchLoaderTest, DestructionDoesNotWaitForAConsumer) {
  const auto start = std::chrono::steady_clock::now();
  for (int round = 0; round < 20; ++round) {
    BatchLoader loader = this->loader({.length = kLength,
                                       .global_batch = 2,
                                       .begin = 0,
                                       .end = 2,
                                       .micro_batch = 1,
                                       .prefetch = 1});
    if (round % 2 == 0) loader.next();
    if (round % 3 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));  // queue full
    BatchLoader moved = std::move(loader);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

TEST_F(BatchLoaderTest, AnErrorArrivesInPlaceWithItsStepAndSample) {
  const Manifest manifest = read_manifest(shards_);
  const SplitEntry& split = manifest.splits.at("train");
  const std::int64_t length = 8192;
  // Damage the block that the third sample reads first.
  const Sampler sampler(window_count(split.tokens, length), kSeed);
  ASSERT_GE(sampler.windows(), 4);
  const std::int64_t window = sampler.window(2);
  const ShardEntry& shard = split.shards.at(static_cast<std::size_t>(window / 2));
  std::string bytes = read_file(shards_ / shard.file);
  bytes[static_cast<std::size_t>(shard.tokens_offset + window % 2 * length * 2 + 8000)] ^= 1;
  std::ofstream(shards_ / shard.file, std::ios::binary) << bytes;

  BatchLoader loader = this->loader(
      {.length = length, .global_batch = 2, .begin = 0, .end = 2, .micro_batch = 1, .prefetch = 2});
  // A window's last target is in the next block, so the window before the damaged one fails as
  // well.
  int delivered = 0;
  const auto read_on = [&] {
    while (delivered < 100) {
      loader.next();
      ++delivered;
    }
  };
  for (int attempt = 0; attempt < 2; ++attempt) {  // the failure stays
    try {
      read_on();
      FAIL() << "no error after " << delivered << " batches";
    } catch (const UserError& error) {
      EXPECT_LE(delivered, 2);
      EXPECT_TRUE(mentions(error.what(), {shard.file, "checksum"}));
      EXPECT_TRUE(mentions(error.with_context(),
                           {str("step ", delivered / 2 + 1, ", sample ", delivered)}));
    }
  }
}

TEST_F(BatchLoaderTest, MisuseIsCaught) {
  EXPECT_THROW(
      loader({.length = kLength, .global_batch = 2, .begin = 1, .end = 1, .micro_batch = 1}),
      InternalError);
  EXPECT_THROW(
      loader({.length = kLength, .global_batch = 2, .begin = 0, .end = 3, .micro_batch = 1}),
      InternalError);
}

}  // namespace
}  // namespace filigree
