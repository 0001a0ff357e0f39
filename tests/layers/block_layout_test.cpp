// The published fixed patterns, cell by cell against layouts derived by hand from their
// definitions.
#include "layers/sparsity/block_layout.hpp"

#include <gtest/gtest.h>

#include <string>

#include "runtime/core/error.hpp"

namespace filigree {
namespace {

// One string per row, '#' where the block is read.
std::vector<std::string> picture(const BlockLayout& layout, std::int64_t head = 0) {
  std::vector<std::string> rows;
  for (std::int64_t row = 0; row < layout.blocks; ++row) {
    rows.emplace_back();
    for (std::int64_t column = 0; column < layout.blocks; ++column)
      rows.back() += layout.at(head, row, column) ? '#' : '.';
  }
  return rows;
}
using Picture = std::vector<std::string>;

LayoutShape causal(std::int64_t blocks, std::int64_t heads = 1) {
  return {.heads = heads, .blocks = blocks};
}
LayoutShape bidirectional(std::int64_t blocks) {
  return {.heads = 1, .blocks = blocks, .causal = false};
}

TEST(BlockLayout, FixedCausal) {
  EXPECT_EQ(picture(fixed_layout({.local = 2}, causal(5))),
            (Picture{"#....", "##...", ".##..", ".###.", ".#.##"}));
}

TEST(BlockLayout, FixedBidirectionalWithAShortLastWindow) {
  EXPECT_EQ(picture(fixed_layout({.local = 3}, bidirectional(5))),
            (Picture{"###.#", "###.#", "###.#", "..###", "..###"}));
}

TEST(BlockLayout, FixedHorizontal) {
  EXPECT_EQ(picture(fixed_layout({.local = 2, .horizontal = true}, bidirectional(4))),
            (Picture{"##.#", "####", ".###", "####"}));
}

TEST(BlockLayout, FixedPatternsDifferByGlobalHead) {
  const FixedLayout options{.local = 2, .patterns = 2};
  const BlockLayout two = fixed_layout(options, causal(4, 2));
  EXPECT_EQ(picture(two, 0), (Picture{"#...", "##..", ".##.", ".###"}));
  EXPECT_EQ(picture(two, 1), (Picture{"#...", "##..", "#.#.", "#.##"}));
  const BlockLayout second = fixed_layout(options, {.heads = 1, .first_head = 1, .blocks = 4});
  EXPECT_EQ(picture(second), picture(two, 1));
}

TEST(BlockLayout, VariableWindowsRepeatTheLastSize) {
  EXPECT_EQ(picture(variable_layout({.windows = {1, 2}, .global = {}}, causal(6))),
            (Picture{"#.....", ".#....", ".##...", "...#..", "...##.", ".....#"}));
}

TEST(BlockLayout, VariableGlobalBlocks) {
  EXPECT_EQ(picture(variable_layout({.windows = {1}, .global = {1}}, causal(4))),
            (Picture{"#...", ".#..", ".##.", ".#.#"}));
  EXPECT_EQ(picture(variable_layout({.windows = {1}, .global = {1}, .horizontal = true},
                                    bidirectional(4))),
            (Picture{"##..", "####", ".##.", ".#.#"}));
}

TEST(BlockLayout, BigBirdWithoutRandomBlocks) {
  EXPECT_EQ(picture(bigbird_layout({.random = 0}, bidirectional(5))),
            (Picture{"#####", "###..", "####.", "#.###", "#..##"}));
  EXPECT_EQ(picture(bigbird_layout({.random = 0}, causal(5))),
            (Picture{"#....", "##...", "###..", "#.##.", "#..##"}));
}

TEST(BlockLayout, RandomBlocksAreAsManyAsAskedAndTheSameOnAnySplit) {
  const VariableLayout options{.windows = {1}, .global = {}, .random = 3, .seed = 9};
  const LayoutShape all{.heads = 4, .blocks = 20, .causal = false};
  const BlockLayout layout = variable_layout(options, all);
  std::int64_t on_diagonal = 0;
  for (std::int64_t h = 0; h < 4; ++h)
    for (std::int64_t row = 0; row < 20; ++row) {
      std::int64_t count = 0;
      for (std::int64_t column = 0; column < 20; ++column) count += layout.at(h, row, column);
      EXPECT_TRUE(count == 4 || count == 3) << count;  // 3 when the diagonal was drawn
      on_diagonal += count == 3;
    }
  EXPECT_LT(on_diagonal, 40);
  const BlockLayout part =
      variable_layout(options, {.heads = 2, .first_head = 2, .blocks = 20, .causal = false});
  EXPECT_EQ(picture(part, 0), picture(layout, 2));
  EXPECT_EQ(picture(part, 1), picture(layout, 3));
  EXPECT_NE(picture(layout, 0), picture(layout, 1));
}

TEST(BlockLayout, CausalRandomBlocksComeFromThePast) {
  const BlockLayout layout = bigbird_layout({.sliding = 1, .global = 0, .random = 2}, causal(12));
  for (std::int64_t row = 0; row < 12; ++row) {
    std::int64_t count = 0;
    for (std::int64_t column = 0; column < 12; ++column) count += layout.at(0, row, column);
    EXPECT_GE(count, std::min<std::int64_t>(2, row + 1));
    EXPECT_LE(count, 3);
  }
}

// Decoding extends the sequence: what earlier rows read must not change.
TEST(BlockLayout, CausalRowsDoNotDependOnTheLength) {
  const auto layouts = [](std::int64_t blocks) {
    return std::vector{fixed_layout({.local = 4, .global = 2}, causal(blocks)),
                       variable_layout({.windows = {3}, .random = 2}, causal(blocks)),
                       bigbird_layout({}, causal(blocks)),
                       longformer_layout({}, causal(blocks)),
                       sliding_layout(5, causal(blocks)),
                       strided_layout({}, causal(blocks))};
  };
  const std::vector<BlockLayout> longest = layouts(17);
  for (std::int64_t blocks = 1; blocks < 17; ++blocks) {
    const std::vector<BlockLayout> shorter = layouts(blocks);
    for (std::size_t i = 0; i < longest.size(); ++i)
      for (std::int64_t row = 0; row < blocks; ++row)
        for (std::int64_t column = 0; column < blocks; ++column)
          EXPECT_EQ(shorter[i].at(0, row, column), longest[i].at(0, row, column))
              << "pattern " << i << " of " << blocks << " blocks, " << row << ", " << column;
  }
}

TEST(BlockLayout, Longformer) {
  EXPECT_EQ(picture(longformer_layout({.global = {0, 2}}, bidirectional(5))),
            (Picture{"#####", "###..", "#####", "#.###", "#.###"}));
  EXPECT_EQ(picture(longformer_layout({}, causal(4))), (Picture{"#...", "##..", "###.", "#.##"}));
}

TEST(BlockLayout, Sliding) {
  EXPECT_EQ(picture(sliding_layout(3, bidirectional(4))),
            (Picture{"##..", "###.", ".###", "..##"}));
  EXPECT_EQ(picture(sliding_layout(3, causal(4))), (Picture{"#...", "##..", ".##.", "..##"}));
}

TEST(BlockLayout, StridedHeadsTogetherSeeEverything) {
  const StridedLayout options{.local = 1, .stride = 3};
  const BlockLayout layout = strided_layout(options, causal(7, 3));
  EXPECT_EQ(picture(layout, 0),
            (Picture{"#......", "##.....", "#.#....", "#..#...", "#..##..", "#..#.#.", "#..#..#"}));
  EXPECT_EQ(picture(layout, 1),
            (Picture{"#......", ".#.....", "..#....", "..##...", "..#.#..", "..#..#.", "..#..##"}));
  for (std::int64_t row = 0; row < 7; ++row)
    for (std::int64_t column = 0; column <= row; ++column)
      EXPECT_TRUE(layout.at(0, row, column) || layout.at(1, row, column) ||
                  layout.at(2, row, column));
}

TEST(BlockLayout, PatternsThatCannotBeAreRefused) {
  EXPECT_THROW(fixed_layout({.local = 2, .global = 3}, causal(4)), UserError);
  EXPECT_THROW(fixed_layout({.horizontal = true}, causal(4)), UserError);
  EXPECT_THROW(variable_layout({.windows = {}}, causal(4)), UserError);
  EXPECT_THROW(strided_layout({.stride = 0}, causal(4)), UserError);
}

TEST(BlockLayout, ListsAndTheirTransposeHoldTheSameCells) {
  const BlockLayout layout = bigbird_layout({.random = 2}, causal(9, 2));
  const BlockLists lists = lists_of(layout, 2, 16);
  for (std::int64_t b = 0; b < 2; ++b)
    for (std::int64_t h = 0; h < 2; ++h)
      for (std::int64_t i = 0; i < 9; ++i) {
        const std::int64_t list = (b * 2 + h) * 9 + i;
        std::vector<std::int32_t> row, column;
        for (std::int32_t other = 0; other < 9; ++other) {
          if (layout.at(h, i, other)) row.push_back(other);
          if (layout.at(h, other, i)) column.push_back(other);
        }
        row.resize(9, -1);
        column.resize(9, -1);
        for (std::size_t slot = 0; slot < 9; ++slot) {
          EXPECT_EQ(lists.indices_BHNJ.data<std::int32_t>()[list * 9 + slot], row[slot]);
          EXPECT_EQ(lists.transposed_indices_BHMN.data<std::int32_t>()[list * 9 + slot],
                    column[slot]);
        }
        EXPECT_EQ(lists.counts_BHN.data<std::int32_t>()[list],
                  9 - std::count(row.begin(), row.end(), -1));
        EXPECT_EQ(lists.transposed_counts_BHM.data<std::int32_t>()[list],
                  9 - std::count(column.begin(), column.end(), -1));
      }
}

}  // namespace
}  // namespace filigree
