#include "runtime/training/recall_task.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>
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
  EXPECT_EQ(shape.first_query(), 192);
  EXPECT_EQ(shape.gap(), 96);
  EXPECT_THROW(recall_shape(31, 32), UserError);
}

TEST(RecallTask, EveryKeyIsAskedForOnceAndHasOneAnswer) {
  const RecallShape shape = recall_shape(64, 5);
  const TokenBatch batch = recall_batch(shape, 3, 7, 20);
  const auto tokens = values_of(batch.tokens_T), targets = values_of(batch.targets_T);
  std::set<std::vector<std::int32_t>> orders;
  for (std::int64_t row = 0; row < batch.batch; ++row) {
    const auto at = [&](std::int64_t i) {
      return tokens[static_cast<std::size_t>(row * shape.sequence + i)];
    };
    std::map<std::int32_t, std::int32_t> value_of;
    for (std::int64_t i = 0; i < shape.pairs; ++i) {
      const std::int64_t pair = shape.lead + 2 * i;
      EXPECT_TRUE(at(pair) >= 1 && at(pair) <= shape.keys) << at(pair);
      EXPECT_TRUE(at(pair + 1) > shape.keys && at(pair + 1) < shape.vocabulary()) << at(pair + 1);
      EXPECT_TRUE(value_of.emplace(at(pair), at(pair + 1)).second) << "key twice";
    }
    std::vector<std::int32_t> order;
    for (std::int64_t i = 0; i < shape.sequence; ++i) {
      const std::int64_t query = i - shape.first_query();
      const bool asks = query >= 0 && query % 2 == 0;
      const bool filled = i >= shape.lead && (i < shape.lead + 2 * shape.pairs || query >= 0);
      EXPECT_EQ(at(i) != 0, filled) << "token " << i;
      const std::int32_t target = targets[static_cast<std::size_t>(row * shape.sequence + i)];
      ASSERT_EQ(target, asks ? value_of.at(at(i)) : -1) << "token " << i;
      if (!asks) continue;
      EXPECT_EQ(at(i + 1), target);
      order.push_back(at(i));
    }
    EXPECT_EQ(std::set<std::int32_t>(order.begin(), order.end()).size(), value_of.size());
    orders.insert(order);
  }
  EXPECT_EQ(orders.size(), 20u) << "samples repeat";
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
