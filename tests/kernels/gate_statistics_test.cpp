#include "kernels/gate/gate_statistics.hpp"

#include <gtest/gtest.h>

#include "kernels/gate/block_mass.hpp"
#include "tests/harness/kernel_parity.hpp"
#include "tests/kernels/gate_cases.hpp"

namespace filigree::testing {
namespace {

using Counts = std::vector<std::int64_t>;

struct Sums {
  Counts pairs, blocks, forced;
  bool operator==(const Sums&) const = default;
};

Counts values(const Tensor& x) {
  const auto span = x.span<std::int64_t>();
  return {span.begin(), span.end()};
}

Sums sums_of(const BlockGrid& grid, const Lists& lists, const std::string& name) {
  ExecutionContext context;
  context.num_threads = 2;
  context.forced_kernels["*"] = name;
  const Tensor pairs = context.empty({grid.heads}, DType::i64);
  const Tensor blocks = context.empty({grid.heads}, DType::i64);
  const Tensor forced = context.empty({grid.heads}, DType::i64);
  for (const Tensor& tensor : {pairs, blocks, forced})
    for (std::int64_t& value : tensor.span<std::int64_t>()) value = -777;
  dispatch<ListStatistics>({grid, lists.counts, lists.indices, pairs, blocks, forced}, context);
  return {values(pairs), values(blocks), values(forced)};
}

// Counted pair by pair, on the rules as the tests word them.
Sums counted(const BlockGrid& grid, const Lists& lists) {
  const std::int64_t H = grid.heads, N = grid.groups();
  Sums sums{Counts(H, 0), Counts(H, 0), Counts(H, 0)};
  for (std::int64_t row = 0; row < grid.batch * H * N; ++row) {
    const std::int64_t b = row / (H * N), n = row % N;
    const auto h = static_cast<std::size_t>(row / N % H);
    for (const std::int32_t m : list_at(lists, row)) {
      ++sums.blocks[h];
      sums.forced[h] += is_forced(grid, b, n, m);
      for (std::int64_t p = std::max(grid.query_offset, grid.first_position(n));
           p < grid.end_position(n); ++p)
        for (std::int64_t j = m * grid.key_block;
             j < std::min(grid.key_length, (m + 1) * grid.key_block); ++j)
          sums.pairs[h] += may_read(grid, b, p, j);
    }
  }
  return sums;
}

TEST(ListStatistics, CountWhatTheListsRead) {
  for (const std::string& name : implementation_names<ListStatistics>())
    for (const BlockGrid& grid : gate_grids()) {
      const Lists lists = random_lists(grid, 5, 8);
      EXPECT_EQ(sums_of(grid, lists, name), counted(grid, lists)) << name << ", " << describe(grid);
    }
}

// Sums of integers: on every device the same ones.
TEST(ListStatistics, AreTheSameEverywhere) {
  for (const BlockGrid& grid : gate_grids()) {
    SCOPED_TRACE(describe(grid));
    const Lists lists = random_lists(grid, 5, 8);
    const Build<ListStatistics> build = [&](TensorSource& source) {
      return ListStatistics::Arguments{placed(source, grid),
                                       source.given(lists.counts),
                                       source.given(lists.indices),
                                       source.output("pairs", {grid.heads}, DType::i64),
                                       source.output("blocks", {grid.heads}, DType::i64),
                                       source.output("forced", {grid.heads}, DType::i64)};
    };
    expect_reference_bits<ListStatistics>(build, {DType::f32});
  }
}

TEST(ListStatistics, EveryBlockReadsEveryAllowedPair) {
  for (const std::string& name : implementation_names<ListStatistics>())
    for (const BlockGrid& grid : gate_grids()) {
      if (grid.document_begin_T.defined()) continue;
      const Sums sums = sums_of(grid, random_lists(grid, 1000, 8), name);
      for (const std::int64_t pairs : sums.pairs)
        EXPECT_EQ(pairs, grid.batch * allowed_pairs(grid)) << name << ", " << describe(grid);
    }
}

// Rows of random positive mass, normalised over the candidates by the op that makes teachers.
struct Teacher {
  std::vector<std::int32_t> groups;
  Tensor mass, weight;

  explicit Teacher(const BlockGrid& grid) : groups(sampled_groups(grid)) {
    const std::int64_t R = static_cast<std::int64_t>(groups.size());
    mass = Tensor::empty({grid.batch, grid.heads, R, grid.key_blocks()}, DType::f64);
    weight = Tensor::empty({grid.batch, grid.heads, R}, DType::f64);
    ExecutionContext context;
    dispatch<BlockMassTeacher>({grid,
                                1,
                                1.0,
                                BlockStatistic::mass,
                                random_normal({grid.batch * grid.query_length, grid.heads * 4}, 1),
                                random_normal({grid.batch * grid.key_length, 4}, 2),
                                i32(groups),
                                {},
                                mass,
                                weight,
                                {},
                                {}},
                               context);
  }
};

TEST(GateRecall, MatchesTheReference) {
  for (const BlockGrid& grid : gate_grids()) {
    SCOPED_TRACE(describe(grid));
    const Lists lists = random_lists(grid, 4, 9);
    const Teacher teacher(grid);
    expect_parity<GateRecall>(
        [&](TensorSource& source) {
          return GateRecall::Arguments{placed(source, grid),
                                       source.given(lists.counts),
                                       source.given(lists.indices),
                                       source.integers(teacher.groups),
                                       source.input_of(teacher.mass),
                                       source.input_of(teacher.weight),
                                       source.output("caught", {grid.heads}),
                                       source.output("total", {grid.heads})};
        },
        {.dtypes = {DType::f64, DType::f32}});
  }
}

double recall(const BlockGrid& grid, const Lists& lists, const Teacher& teacher,
              const std::string& name) {
  ExecutionContext context;
  context.forced_kernels["*"] = name;
  const Tensor caught = context.empty({grid.heads}, DType::f64);
  const Tensor total = context.empty({grid.heads}, DType::f64);
  dispatch<GateRecall>({grid, lists.counts, lists.indices, i32(teacher.groups), teacher.mass,
                        teacher.weight, caught, total},
                       context);
  double sum = 0, weight = 0;
  for (std::int64_t h = 0; h < grid.heads; ++h)
    sum += caught.data<double>()[h], weight += total.data<double>()[h];
  return sum / weight;
}

// Scores that are the teacher's own mass choose the best blocks there are.
TEST(GateRecall, IsOneForEveryBlockAndHighestForTheOracle) {
  const BlockGrid grid = grid_of(2, 2, 600, 16, 16);
  const Teacher teacher(grid);
  const std::int64_t N = grid.groups(), M = grid.key_blocks(), R = teacher.weight.dim(2);
  const Tensor scores = Tensor::zeros({2, 2, N, M}, DType::f64);
  for (std::int64_t row = 0; row < 4 * R; ++row)
    std::copy_n(teacher.mass.data<double>() + row * M, M,
                scores.data<double>() +
                    (row / R * N + teacher.groups[static_cast<std::size_t>(row % R)]) * M);
  for (const std::string& name : implementation_names<GateRecall>()) {
    const auto at = [&](const Lists& lists) { return recall(grid, lists, teacher, name); };
    EXPECT_NEAR(at(random_lists(grid, 1000, 3)), 1.0, 1e-12) << name;
    const double oracle = at(select(grid, scores, {.budget = 10}));
    for (std::uint64_t stream = 3; stream < 8; ++stream)
      EXPECT_GT(oracle, at(random_lists(grid, 10, stream)) + 0.05) << name;
    EXPECT_LT(oracle, 1.0) << name;
  }
}

// Group 3 lists 0, 2 (the previous one) and 3; the teacher gives its candidates 0.5, 0.3, 0.2.
TEST(GateRecall, MatchesAHandDerivedCase) {
  const BlockGrid grid = grid_of(1, 1, 8, 2, 2);
  const Lists lists = random_lists(grid, 0, 3);
  ASSERT_EQ(list_at(lists, 3), (std::vector<std::int32_t>{0, 2, 3}));
  Teacher teacher(grid);
  ASSERT_EQ(teacher.groups, (std::vector<std::int32_t>{3, 1}));
  const std::vector<double> mass = {0.5, 0.3, 0.2, 0};
  std::copy(mass.begin(), mass.end(), teacher.mass.data<double>());
  for (const std::string& name : implementation_names<GateRecall>())
    EXPECT_NEAR(recall(grid, lists, teacher, name), 0.7, 1e-15) << name;
}

}  // namespace
}  // namespace filigree::testing
