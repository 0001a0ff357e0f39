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

TEST(RecallTask, ShapeKeepsQueriesFarFromFacts) {
  const RecallShape shape = recall_shape(256, 16);
  EXPECT_EQ(shape.facts, 8);
  EXPECT_EQ(shape.vocabulary(), 1 + 16 + 16 + 16 * 16);
  EXPECT_EQ(shape.first_query(), 160);
  EXPECT_EQ(shape.gap(), 32);
  EXPECT_THROW(recall_shape(63, 16), UserError);
}

TEST(RecallTask, TokensOfDifferentMeaningDiffer) {
  const RecallShape shape = recall_shape(128, 3);
  std::set<std::int32_t> tokens = {0};
  for (std::int64_t key = 0; key < shape.keys; ++key) {
    tokens.insert(shape.key_token(key));
    for (std::int64_t value = 0; value < 3; ++value) tokens.insert(shape.fact_token(key, value));
  }
  for (std::int64_t value = 0; value < 3; ++value) tokens.insert(shape.value_token(value));
  EXPECT_EQ(std::ssize(tokens), shape.vocabulary());
  EXPECT_EQ(*tokens.rbegin(), shape.vocabulary() - 1);
}

// Checks the layout of one sample; the keys in the order in which they are asked for.
std::vector<std::int32_t> read_sample(const RecallShape& shape,
                                      std::span<const std::int32_t> tokens,
                                      std::span<const std::int32_t> targets) {
  std::map<std::int32_t, std::int32_t> value_of;
  std::vector<std::int32_t> asked;
  for (std::int64_t i = 0; i < shape.sequence; ++i) {
    const std::int32_t token = tokens[static_cast<std::size_t>(i)];
    const std::int32_t target = targets[static_cast<std::size_t>(i)];
    if (i >= shape.first_query()) {
      EXPECT_EQ(target, value_of.at(token)) << "token " << i;
      asked.push_back(token);
      continue;
    }
    EXPECT_EQ(target, -1) << "token " << i;
    if (token == 0) continue;
    EXPECT_TRUE(i >= shape.lead && i < shape.lead + shape.zone) << "token " << i;
    const std::int64_t fact = token - shape.fact_token(0, 0);
    EXPECT_TRUE(fact >= 0 && fact < shape.keys * shape.values) << token;
    const std::int32_t key = shape.key_token(fact / shape.values);
    EXPECT_TRUE(value_of.emplace(key, shape.value_token(fact % shape.values)).second) << "twice";
  }
  EXPECT_EQ(std::ssize(value_of), shape.facts);
  return asked;
}

TEST(RecallTask, EveryRoundAsksForEveryKeyOnceInAnOrderOfItsOwn) {
  const RecallShape shape = recall_shape(256, 5);
  const TokenBatch batch = recall_batch(shape, 3, 7, 20);
  std::set<std::vector<std::int32_t>> orders;
  for (std::int64_t row = 0; row < batch.batch; ++row) {
    const auto begin = static_cast<std::size_t>(row * shape.sequence), size = std::size_t{256};
    const std::vector<std::int32_t> asked =
        read_sample(shape, batch.tokens_T.span<std::int32_t>().subspan(begin, size),
                    batch.targets_T.span<std::int32_t>().subspan(begin, size));
    ASSERT_EQ(asked.size(), 96u);
    for (auto round = asked.begin(); round != asked.end(); round += 8) {
      const std::vector<std::int32_t> order(round, round + 8);
      EXPECT_EQ(std::set<std::int32_t>(order.begin(), order.end()).size(), 8u);
      EXPECT_TRUE(orders.insert(order).second) << "an order repeats";
    }
  }
}

TEST(RecallTask, SamplesDependOnSeedAndNumberOnly) {
  const RecallShape shape = recall_shape(64, 4);
  const auto together = values_of(recall_batch(shape, 3, 10, 2).tokens_T);
  const auto alone = values_of(recall_batch(shape, 3, 11, 1).tokens_T);
  EXPECT_EQ(std::vector<std::int32_t>(together.begin() + 64, together.end()), alone);
  EXPECT_NE(values_of(recall_batch(shape, 4, 11, 1).tokens_T), alone);
}

TEST(RecallTask, SourceDeliversEverySampleOnceAcrossRanksAndMicroBatches) {
  const RecallShape shape = recall_shape(64, 4);
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
    for (std::int64_t i = 0; i < 64; ++i)
      ASSERT_EQ(mine.at(static_cast<std::size_t>(place * 64 + i)),
                expected[static_cast<std::size_t>(sample * 64 + i)])
          << "sample " << sample << " token " << i;
  }
}

}  // namespace
}  // namespace filigree
