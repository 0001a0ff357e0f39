// Budgets that depend on a group's place only, and the density that they amount to.
#include "layers/sparsity/block_budget.hpp"

#include <gtest/gtest.h>

#include "layers/sparsity/observe.hpp"

namespace filigree {
namespace {

SparsityConfig config(std::int64_t group, std::int64_t block) {
  SparsityConfig config;
  config.query_group = group;
  config.key_block = block;
  return config;
}

BlockGrid sequence_grid(const SparsityConfig& c, std::int64_t length, std::int64_t offset = 0) {
  BlockGrid grid = grid_of({.batch = 1,
                            .query_length = length - offset,
                            .key_length = length,
                            .query_heads = 1,
                            .kv_heads = 1,
                            .head_dim = 2,
                            .query_offset = offset},
                           {}, c.query_group, c.key_block);
  grid.local_blocks = c.adaptive_local_blocks();
  return grid;
}

// Pairs of the first count blocks of every group's list, as the lists would be: forced blocks, then
// as many whole others as the budget has room for.
double density_of(const BlockBudget& budget, const SparsityConfig& c, std::int64_t length) {
  const BlockGrid grid = sequence_grid(c, length);
  const Tensor budgets = budget.choice({}, grid, false, {}).budgets_N;
  double pairs = 0;
  for (std::int64_t n = 0; n < grid.groups(); ++n) {
    const GroupBlocks blocks = group_blocks(grid, 0, n);
    const std::int64_t listed = std::clamp<std::int64_t>(budgets.data<std::int32_t>()[n],
                                                         blocks.forced(), blocks.allowed.size());
    for (std::int64_t p = grid.first_position(n); p < grid.end_position(n); ++p)
      pairs += static_cast<double>((listed - blocks.diagonal.size()) * c.key_block + p + 1 -
                                   blocks.diagonal.begin * c.key_block);
  }
  return pairs / static_cast<double>(length * (length + 1) / 2);
}

TEST(BlockBudget, MeetsTheDensityAtTheTrainingLength) {
  for (const std::int64_t group : {1, 16, 64, 128})
    for (const std::int64_t length : {2048, 2000}) {
      SparsityConfig c = config(group, 64);
      for (const double density : {0.25, 0.5}) {
        c.density = density;
        EXPECT_NEAR(density_of(BlockBudget(c, length), c, length), density, 0.005)
            << "groups of " << group << ", " << length << " tokens";
      }
    }
}

TEST(BlockBudget, DependsOnThePlaceOnly) {
  for (const char* selection : {"density", "top_k"})
    for (const std::int64_t group : {1, 7, 16, 48}) {
      SparsityConfig c = config(group, 16);
      c.local_blocks = group % 2 == 1 ? 3 : 0;
      c.selection = selection;
      c.top_k = 4;
      const BlockBudget budget(c, 200);
      const auto of_group = [&](const BlockGrid& grid, std::int64_t n) {
        // What is free to choose beside the forced blocks.
        return std::max<std::int64_t>(
            0, budget.choice({}, grid, false, {}).budgets_N.data<std::int32_t>()[n] -
                   group_blocks(grid, 0, n).forced());
      };
      const BlockGrid whole = sequence_grid(c, 200);
      for (std::int64_t length = 1; length < 200; ++length) {
        const BlockGrid prefix = sequence_grid(c, length);
        const BlockGrid step = sequence_grid(c, length, length - 1);
        const std::int64_t n = prefix.groups() - 1;
        ASSERT_EQ(of_group(prefix, n), of_group(whole, n)) << length << " tokens of " << selection;
        ASSERT_EQ(of_group(step, 0), of_group(whole, n)) << length << " tokens of " << selection;
      }
    }
}

TEST(BlockBudget, GoesOnBeyondTheTrainingLength) {
  const SparsityConfig c = config(16, 16);
  const BlockBudget budget(c, 320);
  const Tensor budgets = budget.choice({}, sequence_grid(c, 640), false, {}).budgets_N;
  for (std::int64_t n = 20; n < 40; ++n)
    EXPECT_EQ(budgets.data<std::int32_t>()[n], budgets.data<std::int32_t>()[19]);
}

TEST(BlockBudget, WarmUpReadsEverythingWhateverTheRule) {
  for (const char* selection : {"density", "top_k", "threshold"})
    for (const std::int64_t group : {16, 48}) {
      SparsityConfig c = config(group, 16);
      c.selection = selection;
      c.top_k = 3;
      c.warmup_steps = 5;
      BatchInfo batch;
      batch.training = true;
      batch.step = 5;
      const BlockGrid grid = sequence_grid(c, 200);
      const BlockBudget::Choice choice = BlockBudget(c, 200).choice({}, grid, false, batch);
      EXPECT_EQ(choice.rule, SelectionRule::top_k);
      for (std::int64_t n = 0; n < grid.groups(); ++n)
        EXPECT_GE(choice.budgets_N.data<std::int32_t>()[n], group_blocks(grid, 0, n).allowed.size())
            << selection << " group " << n;
    }
}

TEST(BlockBudget, ThresholdRisesOverTheRamp) {
  SparsityConfig c = config(16, 16);
  c.selection = "threshold";
  c.threshold = 0.2;
  c.warmup_steps = 2;
  c.ramp_steps = 4;
  const BlockBudget budget(c, 200);
  BatchInfo batch;
  batch.training = true;
  for (const auto& [step, threshold] : {std::pair{3, 0.05}, {4, 0.1}, {6, 0.2}, {60, 0.2}}) {
    batch.step = step;
    const BlockBudget::Choice choice = budget.choice({}, sequence_grid(c, 200), false, batch);
    EXPECT_EQ(choice.rule, SelectionRule::threshold);
    EXPECT_DOUBLE_EQ(choice.threshold, threshold);
  }
}

}  // namespace
}  // namespace filigree
