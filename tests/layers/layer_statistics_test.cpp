// Statistics of the ranks add up to those of one rank.
#include "layers/sparsity/layer_statistics.hpp"

#include <gtest/gtest.h>

#include "parallel/run_ranks.hpp"
#include "tests/harness/tiny_model.hpp"

namespace filigree {
namespace {

using testing::random_ids;
using testing::sequences;
using testing::TinyModel;

ModelConfig config() {
  ModelConfig config = testing::tiny_config();
  config.mechanism = "adaptive";
  config.sequence = 127;
  config.sparsity.key_block = config.sparsity.query_group = 16;
  config.sparsity.density = 0.7;
  config.sparsity.distill_share = 0.5;
  return config.resolved(0);
}

// Of two sequences, split over the data axis.
std::vector<LayerStatistics> measured(const Mesh& mesh) {
  TinyModel tiny(config(), mesh);
  const std::int64_t length = config().sequence;
  const ShardRange mine = shard_range(2, mesh.size(Axis::data), mesh.coordinate(Axis::data));
  const Tensor tokens = random_ids(2 * length, 13, 1).rows(mine.begin * length, mine.end * length);
  std::vector<LayerStatistics> layers(2);
  BatchInfo batch = sequences(mine.size(), length);
  batch.step = 1;
  batch.first_token = mine.begin * length;
  batch.statistics = &layers;
  tiny.model.log_probabilities(tiny.execution, tokens, tokens, batch);
  return reduce_over_ranks(layers, mesh);
}

TEST(LayerStatistics, OfEveryLayoutAreThoseOfOneRank) {
  const std::vector<LayerStatistics> expected = measured(Mesh(self_communicator("world"), {}));
  for (const MeshShape& shape :
       {MeshShape{.data = 2}, MeshShape{.tensor = 4}, MeshShape{.data = 2, .tensor = 2}})
    run_ranks(shape.world(), [&](std::shared_ptr<Communicator> world) {
      const std::vector<LayerStatistics> actual = measured(Mesh(std::move(world), shape));
      ASSERT_EQ(actual.size(), 2u);
      for (std::size_t i = 0; i < 2; ++i) {
        EXPECT_EQ(actual[i].pairs, expected[i].pairs) << shape.name();
        EXPECT_EQ(actual[i].allowed_pairs, expected[i].allowed_pairs);
        EXPECT_EQ(actual[i].forced_share(), expected[i].forced_share());
        EXPECT_NEAR(actual[i].recall(), expected[i].recall(), 1e-12);
        EXPECT_NEAR(actual[i].recall_random(), expected[i].recall_random(), 1e-12);
        EXPECT_NEAR(actual[i].recall_mean_pooled(), expected[i].recall_mean_pooled(), 1e-12);
        EXPECT_NEAR(actual[i].mean_entropy(), expected[i].mean_entropy(), 1e-12);
        EXPECT_NEAR(actual[i].mean_divergence(), expected[i].mean_divergence(), 1e-10);
        EXPECT_NEAR(actual[i].largest_logit, expected[i].largest_logit, 1e-10);
      }
    });
}

TEST(LayerStatistics, AddUp) {
  LayerStatistics one, two;
  one.pairs = 30;
  one.allowed_pairs = 40;
  one.largest_logit = -2;
  two.pairs = 10;
  two.allowed_pairs = 60;
  two.largest_logit = 3;
  one.add(two);
  EXPECT_EQ(one.density(), 0.4);
  EXPECT_EQ(one.largest_logit, 3);
  EXPECT_TRUE(std::isnan(one.recall()));
}

}  // namespace
}  // namespace filigree
