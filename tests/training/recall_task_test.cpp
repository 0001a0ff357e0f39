#include "runtime/training/recall_task.hpp"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <span>
#include <vector>

#include "tests/training/on_mesh.hpp"

namespace filigree {
namespace {

std::vector<std::int32_t> values_of(const Tensor& tensor) {
  const auto span = tensor.span<std::int32_t>();
  return {span.begin(), span.end()};
}

TEST(RecallTask, ShapeKeepsQueriesFarFromPairs) {
  const RecallShape shape = recall_shape(256, 32);
  EXPECT_EQ(shape.pairs, 32);
  EXPECT_EQ(shape.vocabulary(), 1 + 64 + 32);
  EXPECT_EQ(shape.first_query(), 160);
  EXPECT_EQ(shape.gap(), 64);
  EXPECT_THROW(recall_shape(31, 32), UserError);
}

struct ReadSample {
  std::map<std::int32_t, std::int32_t> value_of;
  std::vector<std::int32_t> asked;
};

// Checks the layout of one sample.
ReadSample read_sample(const RecallShape& shape, std::span<const std::int32_t> tokens,
                       std::span<const std::int32_t> targets) {
  ReadSample sample;
  for (std::int64_t i = 0; i < shape.sequence; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const std::int32_t token = tokens[at];
    if (i >= shape.first_query()) {
      EXPECT_EQ(targets[at], sample.value_of.at(token)) << "token " << i;
      sample.asked.push_back(token);
      continue;
    }
    EXPECT_EQ(targets[at], -1) << "token " << i;
    const std::int64_t place = i - shape.lead;
    if (place < 0 || place >= 2 * shape.pairs) {
      EXPECT_EQ(token, 0) << "token " << i;
    } else if (place % 2 == 0 && token != 0) {
      EXPECT_TRUE(token >= 1 && token <= shape.keys) << token;
      EXPECT_TRUE(tokens[at + 1] > shape.keys && tokens[at + 1] < shape.vocabulary());
      EXPECT_TRUE(sample.value_of.emplace(token, tokens[at + 1]).second) << "key twice";
    } else if (place % 2 == 0) {
      EXPECT_EQ(tokens[at + 1], 0) << "a value without a key";
    }
  }
  return sample;
}

TEST(RecallTask, EveryRoundAsksForEveryKeyOnceInAnOrderOfItsOwn) {
  const RecallShape shape = recall_shape(128, 5);
  std::set<std::vector<std::int32_t>> orders;
  for (const std::int64_t first : {std::int64_t{8}, kHeldOutSample}) {
    const TokenBatch batch = recall_batch(shape, 3, first, 8);
    for (std::int64_t row = 0; row < batch.batch; ++row) {
      const auto begin = static_cast<std::size_t>(row * shape.sequence);
      const auto size = static_cast<std::size_t>(shape.sequence);
      const ReadSample sample =
          read_sample(shape, batch.tokens_T.span<std::int32_t>().subspan(begin, size),
                      batch.targets_T.span<std::int32_t>().subspan(begin, size));
      const std::int64_t pairs = pairs_of_sample(shape, first + row);
      EXPECT_EQ(std::ssize(sample.value_of), pairs);
      EXPECT_EQ(pairs, first == kHeldOutSample ? 16 : 16 >> row % 4);
      ASSERT_EQ(std::ssize(sample.asked), 48);
      for (std::int64_t round = 0; round < 48 / pairs; ++round) {
        const std::vector<std::int32_t> order(sample.asked.begin() + round * pairs,
                                              sample.asked.begin() + (round + 1) * pairs);
        EXPECT_EQ(std::set<std::int32_t>(order.begin(), order.end()).size(),
                  sample.value_of.size());
        if (pairs >= 8) {
          EXPECT_TRUE(orders.insert(order).second) << "an order repeats";
        }
      }
    }
  }
}

TEST(RecallTask, SamplesDependOnSeedAndNumberOnly) {
  const RecallShape shape = recall_shape(32, 4);
  const auto together = values_of(recall_batch(shape, 3, 10, 2).tokens_T);
  const auto alone = values_of(recall_batch(shape, 3, 11, 1).tokens_T);
  EXPECT_EQ(std::vector<std::int32_t>(together.begin() + 32, together.end()), alone);
  EXPECT_NE(values_of(recall_batch(shape, 4, 11, 1).tokens_T), alone);
}

TEST(RecallTask, SourceDeliversEverySampleOnceAcrossRanksAndMicroBatches) {
  const RecallShape shape = recall_shape(32, 4);
  RunConfig config;
  config.train.batch = 5;
  config.train.micro_batch = 2;
  MeshShape two;
  two.data = 2;
  std::vector<std::vector<std::int32_t>> by_rank(2);
  testing::on_mesh(two, [&](const Mesh& mesh) {
    RecallSource source(shape, config, mesh);
    auto& tokens = by_rank[static_cast<std::size_t>(mesh.world().rank())];
    for (std::int64_t i = 0; i < 2 * source.micro_batches(); ++i) {
      const auto more = values_of(source.next().tokens_T);
      tokens.insert(tokens.end(), more.begin(), more.end());
    }
  });
  // Rank 0 has samples 0..2 and 5..7, rank 1 the others.
  const auto expected = values_of(recall_batch(shape, config.train.seed, 0, 10).tokens_T);
  for (std::int64_t sample = 0; sample < 10; ++sample) {
    const bool first = sample % 5 < 3;
    const std::int64_t place = sample % 5 - (first ? 0 : 3) + sample / 5 * (first ? 3 : 2);
    const auto& mine = by_rank[first ? 0 : 1];
    for (std::int64_t i = 0; i < 32; ++i)
      ASSERT_EQ(mine.at(static_cast<std::size_t>(place * 32 + i)),
                expected[static_cast<std::size_t>(sample * 32 + i)])
          << "sample " << sample << " token " << i;
  }
}

}  // namespace
}  // namespace filigree
