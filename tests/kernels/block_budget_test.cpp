#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "kernels/attention/block_selection.hpp"
#include "kernels/gate/gate_statistics.hpp"
#include "tests/kernels/gate_cases.hpp"

namespace filigree::testing {
namespace {

// Pairs that lists with these budgets read, counted one by one.
double pairs_read(const BlockGrid& grid, const std::vector<std::int32_t>& budgets) {
  ExecutionContext context;
  const Lists lists = empty_lists(grid, list_capacity(grid, budgets, false));
  dispatch<BlockSelect>({.grid = grid,
                         .scores_BHNM = random_scores(grid, 5),
                         .budgets_N = i32(budgets),
                         .dense_heads_H = {},
                         .counts_BHN = lists.counts,
                         .indices_BHNJ = lists.indices},
                        context);
  double pairs = 0;
  for (std::int64_t n = 0; n < grid.groups(); ++n)
    for (const std::int32_t m : list_at(lists, n))
      for (std::int64_t p = grid.first_position(n); p < grid.end_position(n); ++p)
        for (std::int64_t j = m * grid.key_block;
             j < std::min(grid.key_length, (m + 1) * grid.key_block); ++j)
          pairs += may_read(grid, 0, p, j);
  return pairs;
}

std::vector<BlockGrid> budget_grids() {
  return {grid_of(1, 1, 1024, 1, 16),        grid_of(1, 1, 1024, 16, 16),
          grid_of(1, 1, 1000, 64, 16),       grid_of(1, 1, 2048, 64, 64),
          grid_of(1, 1, 2048, 16, 64),       grid_of(1, 1, 1500, 128, 128),
          grid_of(1, 1, 1024, 16, 16, false)};
}

TEST(BlockBudgets, ReadTheDensityAskedFor) {
  for (const BlockGrid& grid : budget_grids()) {
    const double all = static_cast<double>(allowed_pairs(grid));
    const double forced = pairs_read(grid, budgets_for_density(1e-9, grid)) / all;
    for (const double density : {0.05, 0.125, 0.25, 0.5, 0.9, 1.0}) {
      SCOPED_TRACE(str(describe(grid), ", density ", density, ", forced ", forced));
      const double read = pairs_read(grid, budgets_for_density(density, grid)) / all;
      // One block of one group is the step; a short last block or group may cost another.
      const double step = static_cast<double>(grid.query_block * grid.key_block) / all;
      EXPECT_NEAR(read, std::max(density, forced), 2 * step);
    }
  }
}

TEST(BlockBudgets, FullDensityReadsEverything) {
  for (const BlockGrid& grid : budget_grids())
    EXPECT_EQ(pairs_read(grid, budgets_for_density(1.0, grid)),
              static_cast<double>(allowed_pairs(grid)))
        << describe(grid);
}

TEST(BlockBudgets, NeverGoBelowTheForcedBlocks) {
  const BlockGrid grid = grid_of(1, 1, 640, 64, 64);
  EXPECT_EQ(budgets_for_density(0.01, grid),
            (std::vector<std::int32_t>{1, 2, 3, 3, 3, 3, 3, 3, 3, 3}));
}

// 10 groups and blocks of 64: half of 55 block pairs. Everywhere 3 blocks are 1+2+3*8 = 27 of them,
// everywhere 4 are 34, less half a block on the diagonal each.
TEST(BlockBudgets, MatchAHandDerivedCase) {
  const BlockGrid grid = grid_of(1, 1, 640, 64, 64);
  EXPECT_EQ(allowed_pairs(grid), 640 * 641 / 2);
  const std::vector<std::int32_t> budgets = budgets_for_density(0.5, grid);
  EXPECT_EQ(std::accumulate(budgets.begin(), budgets.end(), 0), 30);
  for (std::size_t n = 0; n < budgets.size(); ++n)
    EXPECT_TRUE(budgets[n] >= std::min<int>(3, n + 1) && budgets[n] <= std::min<int>(4, n + 1))
        << n;
}

// With N blocks and large N a constant k reads 2 k/N - (k/N)^2.
TEST(BlockBudgets, ApproachTheClosedForm) {
  const BlockGrid grid = grid_of(1, 1, 32768, 64, 64);
  const std::vector<std::int32_t> budgets = budgets_for_density(0.1, grid);
  EXPECT_NEAR(budgets.back(), 512 * (1 - std::sqrt(0.9)), 1.0);
}

TEST(BlockBudgets, LaterPartsOfASequenceCountFromItsBeginning) {
  BlockGrid grid = grid_of(1, 1, 230, 16, 16);
  grid.query_length = 40, grid.query_offset = 190;
  EXPECT_EQ(allowed_pairs(grid), 230 * 231 / 2 - 190 * 191 / 2);
  EXPECT_EQ(budgets_for_density(1.0, grid), (std::vector<std::int32_t>{12, 13, 14, 15}));
}

TEST(BlockBudgets, RefuseADensityOutOfRange) {
  for (const double density : {0.0, -0.1, 1.5, std::nan("")}) {
    try {
      budgets_for_density(density, grid_of(1, 1, 64, 16, 16));
      ADD_FAILURE() << "took density " << density;
    } catch (const UserError& error) {
      EXPECT_NE(std::string(error.what()).find("allowed: above 0 and at most 1"), std::string::npos)
          << error.what();
    }
  }
}

TEST(BlockBudgets, CapacityHoldsEveryList) {
  const BlockGrid grid = grid_of(1, 2, 640, 64, 16);
  EXPECT_EQ(list_capacity(grid, std::vector<std::int32_t>(10, 0), false), 6);  // 4 + 2 forced
  EXPECT_EQ(list_capacity(grid, std::vector<std::int32_t>(10, 9), false), 9);
  EXPECT_EQ(list_capacity(grid, std::vector<std::int32_t>(10, 99), false), 40);
  EXPECT_EQ(list_capacity(grid, std::vector<std::int32_t>(10, 9), true), 40);
}

}  // namespace
}  // namespace filigree::testing
