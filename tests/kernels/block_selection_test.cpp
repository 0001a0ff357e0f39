#include "kernels/attention/block_selection.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "tests/harness/kernel_parity.hpp"
#include "tests/kernels/gate_cases.hpp"

namespace filigree::testing {
namespace {

using Blocks = std::vector<std::int32_t>;

// What one group should list, by the rules as they are worded.
Blocks expected_list(const BlockGrid& grid, const SelectOptions& options, std::int64_t b,
                     std::int64_t n, const double* z) {
  std::set<std::int32_t> chosen;
  Blocks others;
  double sum = 0;
  for (std::int32_t m = 0; m < grid.key_blocks(); ++m) {
    if (is_forced(grid, b, n, m))
      chosen.insert(m);
    else if (has_score(grid, b, n, m))
      others.push_back(m);
    if (has_score(grid, b, n, m)) sum += std::exp(z[m]);
  }
  std::sort(others.begin(), others.end(),
            [z](auto i, auto j) { return z[i] > z[j] || (z[i] == z[j] && i < j); });
  for (const std::int32_t m : others) {
    const bool take = options.rule == SelectionRule::top_k
                          ? static_cast<std::int32_t>(chosen.size()) < options.budget
                          : std::exp(z[m]) / sum > options.threshold;
    if (take) chosen.insert(m);
  }
  return {chosen.begin(), chosen.end()};
}

void expect_lists(const BlockGrid& grid, const Tensor& scores, const SelectOptions& options) {
  const Lists lists = select(grid, scores, options);
  const std::int64_t H = grid.heads, N = grid.groups(), M = grid.key_blocks();
  const std::int64_t J = columns_of(lists.indices);
  for (std::int64_t row = 0; row < grid.batch * H * N; ++row) {
    const Blocks expected = expected_list(grid, options, row / (H * N), row % N,
                                          scores.to(DType::f64).data<double>() + row * M);
    EXPECT_EQ(list_at(lists, row), expected)
        << options.implementation << ", row " << row << " of " << describe(grid);
    for (std::int64_t s = static_cast<std::int64_t>(expected.size()); s < J; ++s)
      EXPECT_EQ(lists.indices.data<std::int32_t>()[row * J + s], -1) << "past the count";
  }
}

TEST(BlockSelect, HeadsBelowTheThresholdListNothing) {
  for (const std::string& name : implementation_names<BlockSelect>())
    for (const BlockGrid& grid : gate_grids()) {
      const Tensor scores = random_scores(grid, 3);
      const Tensor heads = random_normal({grid.batch * grid.groups(), grid.heads}, 4);
      const Tensor dense = Tensor::zeros({grid.heads}, DType::u8);
      dense.data<std::uint8_t>()[0] = grid.heads > 1;
      SelectOptions options{.budget = 4, .dense_heads = dense, .implementation = name};
      const Lists all = select(grid, scores, options);
      options.head_scores = heads;
      options.head_threshold = 0.2;
      const Lists some = select(grid, scores, options);
      const std::int64_t H = grid.heads, N = grid.groups();
      for (std::int64_t row = 0; row < grid.batch * H * N; ++row) {
        const std::int64_t b = row / (H * N), h = row / N % H, n = row % N;
        const auto document = [&](std::int64_t t) { return document_of(grid, b, t); };
        const bool one_document =
            document(grid.first_position(n)) == document(grid.end_position(n) - 1);
        const bool skipped = one_document && dense.data<std::uint8_t>()[h] == 0 &&
                             heads.data<double>()[(b * N + n) * H + h] < 0.2;
        EXPECT_EQ(list_at(some, row), skipped ? Blocks{} : list_at(all, row))
            << name << ", row " << row << " of " << describe(grid);
      }
    }
}

// Scores of few distinct values, so that most budgets cut through a tie.
Tensor tied_scores(const BlockGrid& grid) {
  const Tensor scores = random_scores(grid, 3);
  for (double& z : scores.span<double>()) z = std::round(z);
  return scores;
}

TEST(BlockSelect, TopKFollowsTheRule) {
  for (const std::string& name : implementation_names<BlockSelect>())
    for (const BlockGrid& grid : gate_grids())
      for (const std::int32_t budget : {0, 1, 3, 5, 9, 1000}) {
        expect_lists(grid, random_scores(grid, 1), {.budget = budget, .implementation = name});
        expect_lists(grid, tied_scores(grid).to(DType::f32),
                     {.budget = budget, .implementation = name, .threads = 3});
      }
}

TEST(BlockSelect, ThresholdFollowsTheRule) {
  for (const std::string& name : implementation_names<BlockSelect>())
    for (const BlockGrid& grid : gate_grids())
      for (const double threshold : {0.0, 0.02, 0.1, 0.5, 1.0})
        expect_lists(grid, random_scores(grid, 2),
                     {.rule = SelectionRule::threshold,
                      .threshold = threshold,
                      .implementation = name,
                      .threads = 2});
}

struct SelectCase {
  SelectionRule rule;
  double threshold;
  std::int32_t budget;
  bool has_head_scores;
};

TEST(BlockSelect, GivesTheSameListsEverywhere) {
  const std::vector<SelectCase> cases = {{SelectionRule::top_k, 0.0, 4, true},
                                         {SelectionRule::top_k, 0.0, 6, false},
                                         {SelectionRule::threshold, 0.0, 0, false},
                                         {SelectionRule::threshold, 0.07, 0, true}};
  for (const BlockGrid& grid : gate_grids())
    for (const SelectCase& c : cases) {
      SCOPED_TRACE(str(describe(grid), ", budget ", c.budget, ", threshold ", c.threshold));
      const Tensor dense = Tensor::zeros({grid.heads}, DType::u8);
      dense.data<std::uint8_t>()[grid.heads - 1] = grid.heads > 1 && c.has_head_scores;
      // Of few distinct values for top_k, so that most budgets cut through a tie.
      const auto score = [&](double z) {
        return c.rule == SelectionRule::top_k ? std::round(z) : z;
      };
      const std::int64_t N = grid.groups(), M = grid.key_blocks();
      const Build<BlockSelect> build = [&](TensorSource& source) {
        BlockSelect::Arguments a;
        a.grid = placed(source, grid);
        a.rule = c.rule, a.threshold = c.threshold;
        a.scores_BHNM = source.input({grid.batch, grid.heads, N, M}, score);
        a.budgets_N = source.integers(std::vector<std::int32_t>(N, c.budget));
        a.dense_heads_H = source.given(dense);
        if (c.has_head_scores)
          a.head_scores_NH = source.input({grid.batch * N, grid.heads}), a.head_threshold = 0.2;
        a.counts_BHN = source.output("counts", {grid.batch, grid.heads, N}, DType::i32);
        a.indices_BHNJ = source.output("indices", {grid.batch, grid.heads, N, M}, DType::i32);
        return a;
      };
      expect_reference_bits<BlockSelect>(build, {DType::f32});
    }
}

// Rows of several hundred blocks: every byte of a key decides somewhere, -0 and 0 are equal, and
// ties span warps.
TEST(BlockSelect, GivesTheSameListsOfLongRows) {
  const BlockGrid grid = grid_of(1, 1, 1200, 120, 2);
  const std::int64_t N = grid.groups(), M = grid.key_blocks();
  const std::vector<std::function<double(double)>> maps = {
      [](double z) { return z; }, [](double z) { return std::ldexp(z, -100); },
      [](double z) { return 1.0 + std::ldexp(std::round(4 * z), -23); },
      [](double z) { return z > 1 ? 1.0 : std::copysign(0.0, z); }};
  for (std::size_t i = 0; i < maps.size(); ++i)
    for (const std::int32_t budget : {70, 150, 333}) {
      SCOPED_TRACE(str("scores ", i, ", budget ", budget));
      const Build<BlockSelect> build = [&](TensorSource& source) {
        BlockSelect::Arguments a;
        a.grid = grid;
        a.scores_BHNM = source.input({1, 1, N, M}, maps[i]);
        a.budgets_N = source.integers(std::vector<std::int32_t>(N, budget));
        a.counts_BHN = source.output("counts", {1, 1, N}, DType::i32);
        a.indices_BHNJ = source.output("indices", {1, 1, N, M}, DType::i32);
        return a;
      };
      expect_reference_bits<BlockSelect>(build, {DType::f32});
    }
}

// Length 12, groups of 2, blocks of 2: group 5 holds tokens 10 and 11, its diagonal is block 5.
TEST(BlockSelect, MatchesAHandDerivedCase) {
  const BlockGrid grid = grid_of(1, 1, 12, 2, 2);
  const Tensor scores = Tensor::zeros({1, 1, 6, 6}, DType::f64);
  const std::vector<double> last = {0.1, 0.7, 0.9, 0.7, 0.0, 5.0};
  std::copy(last.begin(), last.end(), scores.data<double>() + 5 * 6);
  for (const std::string& name : implementation_names<BlockSelect>()) {
    const auto list = [&](std::int32_t budget) {
      return list_at(select(grid, scores, {.budget = budget, .implementation = name}), 5);
    };
    EXPECT_EQ(list(2), (Blocks{0, 4, 5})) << "never fewer than the forced ones";
    EXPECT_EQ(list(4), (Blocks{0, 2, 4, 5}));
    EXPECT_EQ(list(5), (Blocks{0, 1, 2, 4, 5})) << "of 1 and 3, which tie, the lower";
    EXPECT_EQ(list(6), (Blocks{0, 1, 2, 3, 4, 5}));
  }
}

// Blocks of 4 and groups of 8: group 1 (tokens 8..15) overlaps blocks 2 and 3.
TEST(BlockSelect, LongGroupsForceEveryBlockTheyOverlap) {
  const BlockGrid grid = grid_of(1, 1, 20, 8, 4);
  for (const std::string& name : implementation_names<BlockSelect>()) {
    const Lists lists = select(grid, random_scores(grid, 1), {.implementation = name});
    EXPECT_EQ(list_at(lists, 0), (Blocks{0, 1}));
    EXPECT_EQ(list_at(lists, 1), (Blocks{0, 1, 2, 3}));
    EXPECT_EQ(list_at(lists, 2), (Blocks{0, 3, 4}));
  }
}

// Blocks of 4; the second document begins at 6, inside block 1.
TEST(BlockSelect, DocumentsBoundTheChoice) {
  const BlockGrid grid = with_documents(grid_of(1, 1, 24, 1, 4), {0, 6});
  for (const std::string& name : implementation_names<BlockSelect>()) {
    const Lists lists =
        select(grid, random_scores(grid, 1), {.budget = 100, .implementation = name});
    EXPECT_EQ(list_at(lists, 5), (Blocks{0, 1}));
    EXPECT_EQ(list_at(lists, 6), (Blocks{1}));
    EXPECT_EQ(list_at(lists, 23), (Blocks{1, 2, 3, 4, 5}));
  }
}

TEST(BlockSelect, DenseHeadsListEveryAllowedBlock) {
  const Tensor dense = Tensor::zeros({2}, DType::u8);
  dense.data<std::uint8_t>()[1] = 1;
  for (const std::string& name : implementation_names<BlockSelect>())
    for (const BlockGrid& grid : gate_grids()) {
      if (grid.heads != 2) continue;
      const Lists lists = select(grid, random_scores(grid, 1),
                                 {.dense_heads = dense, .implementation = name, .threads = 2});
      for (std::int64_t row = 0; row < lists.counts.numel(); ++row) {
        const std::int64_t n = row % grid.groups(), b = row / grid.groups() / 2;
        Blocks expected;
        for (std::int32_t m = 0; m < grid.key_blocks(); ++m)
          if (is_forced(grid, b, n, m) ||
              (row / grid.groups() % 2 == 1 && has_score(grid, b, n, m)))
            expected.push_back(m);
        EXPECT_EQ(list_at(lists, row), expected) << name << ", " << describe(grid);
      }
    }
}

TEST(BlockSelect, RefusesListsThatDoNotFit) {
  const BlockGrid grid = grid_of(1, 1, 12, 2, 2);
  for (const std::string& name : implementation_names<BlockSelect>()) {
    const auto with_capacity = [&](std::int64_t capacity) {
      return select(grid, random_scores(grid, 1),
                    {.budget = 4, .capacity = capacity, .implementation = name});
    };
    EXPECT_EQ(list_at(with_capacity(4), 3).size(), 4u);
    try {
      with_capacity(3);
      ADD_FAILURE() << name << " took lists of 4 blocks with a capacity of 3";
    } catch (const InternalError& error) {
      EXPECT_NE(std::string(error.what())
                    .find("sequence 0, head 0, group 3: more blocks than the capacity 3"),
                std::string::npos)
          << error.what();
    }
  }
}

TEST(BlockTranspose, ListsTheGroupsThatReadEachBlock) {
  for (const std::string& name : implementation_names<BlockTranspose>())
    for (const BlockGrid& grid : gate_grids()) {
      SCOPED_TRACE(str(name, ", ", describe(grid)));
      const Lists lists = random_lists(grid, 4, 7);
      const std::int64_t N = grid.groups(), M = grid.key_blocks();
      Lists transposed{Tensor::empty({grid.batch, grid.heads, M}, DType::i32),
                       Tensor::empty({grid.batch, grid.heads, M, N}, DType::i32)};
      for (std::int32_t& value : transposed.indices.span<std::int32_t>()) value = 12345;
      ExecutionContext context;
      context.num_threads = 2;
      context.forced_kernels["*"] = name;
      dispatch<BlockTranspose>({.counts_BHN = lists.counts,
                                .indices_BHNJ = lists.indices,
                                .transposed_counts_BHM = transposed.counts,
                                .transposed_indices_BHMN = transposed.indices},
                               context);
      for (std::int64_t row = 0; row < transposed.counts.numel(); ++row) {
        Blocks expected;
        for (std::int32_t n = 0; n < N; ++n) {
          const Blocks list = list_at(lists, row / M * N + n);
          if (std::find(list.begin(), list.end(), row % M) != list.end()) expected.push_back(n);
        }
        EXPECT_EQ(list_at(transposed, row), expected) << "block row " << row;
        expected.resize(static_cast<std::size_t>(N), -1);
        EXPECT_TRUE(std::equal(expected.begin(), expected.end(),
                               transposed.indices.data<std::int32_t>() + row * N));
      }
    }
}

TEST(BlockTranspose, GivesTheSameListsEverywhere) {
  std::vector<BlockGrid> grids = gate_grids();
  grids.push_back(grid_of(1, 1, 2100, 1, 700));  // more groups than a warp has bits
  for (const BlockGrid& grid : grids) {
    SCOPED_TRACE(describe(grid));
    const Lists lists = random_lists(grid, 4, 7);
    const std::int64_t N = grid.groups(), M = grid.key_blocks();
    const Build<BlockTranspose> build = [&](TensorSource& source) {
      return BlockTranspose::Arguments{
          source.given(lists.counts), source.given(lists.indices),
          source.output("counts", {grid.batch, grid.heads, M}, DType::i32),
          source.output("indices", {grid.batch, grid.heads, M, N}, DType::i32)};
    };
    expect_reference_bits<BlockTranspose>(build, {DType::f32});
  }
}

BlockLists block_lists(const Lists& lists) {
  BlockLists result;
  result.counts_BHN = lists.counts, result.indices_BHNJ = lists.indices;
  result.query_block = 16, result.key_block = 16;
  return result;
}

TEST(BlockLists, TheFirstDifferenceIsFound) {
  const BlockGrid grid = grid_of(2, 2, 200, 16, 16);
  const Lists a = random_lists(grid, 5, 7);
  const Lists b{a.counts.clone(), a.indices.clone()};
  EXPECT_FALSE(first_difference(block_lists(a), block_lists(b)));
  EXPECT_EQ(block_list_hash(block_lists(a)), block_list_hash(block_lists(b)));

  // Sequence 1, head 0, group 9: 13 groups a head, 13 slots a group.
  const std::int64_t row = 2 * 13 + 9;
  std::int32_t& block = b.indices.data<std::int32_t>()[row * 13 + 2];
  const std::int32_t before = block++;
  const auto changed = first_difference(block_lists(a), block_lists(b));
  ASSERT_TRUE(changed);
  EXPECT_EQ((std::vector<std::int64_t>{changed->sequence, changed->head, changed->group,
                                       changed->slot, changed->left, changed->right}),
            (std::vector<std::int64_t>{1, 0, 9, 2, before, before + 1}));
  EXPECT_NE(block_list_hash(block_lists(a)), block_list_hash(block_lists(b)));

  block = before;
  b.counts.data<std::int32_t>()[row] = 4;
  const auto shorter = first_difference(block_lists(a), block_lists(b));
  ASSERT_TRUE(shorter);
  EXPECT_EQ(shorter->slot, 4);
  EXPECT_EQ(shorter->left, a.indices.data<std::int32_t>()[row * 13 + 4]);
  EXPECT_EQ(shorter->right, -1);
  EXPECT_NE(block_list_hash(block_lists(a)), block_list_hash(block_lists(b)));
}

TEST(BlockLists, TheHashIsOfTheListsAndOfNothingElse) {
  const BlockGrid grid = grid_of(1, 2, 100, 16, 16);
  const Lists tight = select(grid, random_scores(grid, 1), {.budget = 4, .capacity = 4});
  const Lists roomy = select(grid, random_scores(grid, 1), {.budget = 4, .capacity = 7});
  for (std::int64_t s = list_at(roomy, 0).size(); s < 7; ++s)
    roomy.indices.data<std::int32_t>()[s] = 99;  // past the count
  EXPECT_EQ(block_list_hash(block_lists(tight)), block_list_hash(block_lists(roomy)));
  EXPECT_FALSE(first_difference(block_lists(tight), block_lists(roomy)));
  BlockLists other = block_lists(tight);
  other.key_block = 32;
  EXPECT_NE(block_list_hash(block_lists(tight)), block_list_hash(other));
}

}  // namespace
}  // namespace filigree::testing
