#include "kernels/gate/gate_scores.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/gate/pooling.hpp"
#include "tests/harness/kernel_gradcheck.hpp"
#include "tests/harness/kernel_parity.hpp"
#include "tests/kernels/gate_cases.hpp"

namespace filigree::testing {
namespace {

constexpr double kScale = 0.37;

Shape groups_of(const BlockGrid& grid, std::int64_t width) {
  return {grid.batch * grid.groups(), grid.heads * width};
}
Shape blocks_of(const BlockGrid& grid, std::int64_t width) {
  return {grid.batch * grid.key_blocks(), grid.heads * width};
}
Shape scores_of(const BlockGrid& grid) {
  return {grid.batch, grid.heads, grid.groups(), grid.key_blocks()};
}

TEST(GateScores, MatchTheReference) {
  // Rows of one or two scores: terms of one sign, so that no row is the rest of a cancellation.
  const auto positive = [](double z) { return 1 + 0.25 * z; };
  std::vector<BlockGrid> grids = gate_grids();
  grids.push_back(grid_of(1, 1, 66 * 16, 16, 16));  // one block past a tile of 64
  for (const BlockGrid& grid : grids)
    for (const std::int64_t width : {8, 33}) {
      SCOPED_TRACE(str(describe(grid), ", width ", width));
      expect_parity<GateScores>([&](TensorSource& source) {
        return GateScores::Arguments{placed(source, grid), kScale,
                                     source.input(groups_of(grid, width), positive),
                                     source.input(blocks_of(grid, width), positive),
                                     source.output("z", scores_of(grid), source.accumulation())};
      });
      expect_parity<GateScoresBackward>([&](TensorSource& source) {
        return GateScoresBackward::Arguments{
            placed(source, grid),
            kScale,
            source.input(groups_of(grid, width), positive),
            source.input(blocks_of(grid, width), positive),
            source.input(scores_of(grid), positive, source.accumulation()),
            source.output("dqg", groups_of(grid, width)),
            source.output("dkg", blocks_of(grid, width))};
      });
    }
}

Tensor scores(const BlockGrid& grid, const Tensor& qg, const Tensor& kg, const std::string& name) {
  ExecutionContext context;
  context.forced_kernels["*"] = name;
  const Tensor z = context.empty(scores_of(grid), accumulation_dtype(qg.dtype()));
  dispatch<GateScores>({grid, kScale, qg, kg, z}, context);
  return z;
}

// The definition, element by element, on the rules as the tests word them.
TEST(GateScores, AreProductsAtCandidatesAndMinusInfinityElsewhere) {
  constexpr std::int64_t E = 5;
  for (const std::string& name : implementation_names<GateScores>())
    for (const BlockGrid& grid : gate_grids()) {
      SCOPED_TRACE(str(name, ", ", describe(grid)));
      const Tensor qg = random_normal(groups_of(grid, E), 1),
                   kg = random_normal(blocks_of(grid, E), 2);
      const Tensor z = scores(grid, qg, kg, name);
      const std::int64_t H = grid.heads, N = grid.groups(), M = grid.key_blocks();
      for (std::int64_t i = 0; i < z.numel(); ++i) {
        const std::int64_t m = i % M, n = i / M % N, h = i / M / N % H, b = i / M / N / H;
        double expected = 0;
        for (std::int64_t e = 0; e < E; ++e)
          expected += kScale * qg.data<double>()[((b * N + n) * H + h) * E + e] *
                      kg.data<double>()[((b * M + m) * H + h) * E + e];
        if (has_score(grid, b, n, m))
          EXPECT_NEAR(z.data<double>()[i], expected, 1e-13);
        else
          EXPECT_EQ(z.data<double>()[i], -std::numeric_limits<double>::infinity());
      }
    }
}

// Scores and lists from queries and keys as a mechanism makes them.
struct Choice {
  Tensor z;
  Lists lists;
};
Choice choose(const BlockGrid& grid, const Tensor& q, const Tensor& k, const std::string& name) {
  ExecutionContext context;
  context.forced_kernels["*"] = name;
  const Tensor qg = context.empty({grid.batch * grid.groups(), q.dim(1)}, q.dtype());
  const Tensor kbar = context.empty({grid.batch * grid.key_blocks(), k.dim(1)}, k.dtype());
  dispatch<GroupQueries>({grid.batch, grid.query_block, q, qg}, context);
  dispatch<BlockMeanKeys>({grid.batch, grid.key_block, k, kbar}, context);
  Choice choice;
  choice.z = scores(grid, qg, kbar, name);
  choice.lists = select(grid, choice.z, {.budget = 5, .implementation = name});
  return choice;
}

// x with other values in the rows [begin, end).
Tensor perturbed(const Tensor& x, std::int64_t begin, std::int64_t end) {
  const Tensor result = x.clone();
  for (std::int64_t i = begin * x.dim(1); i < end * x.dim(1); ++i)
    result.data<float>()[i] = -7 * result.data<float>()[i] + 3;
  return result;
}

// The bits of group n's scores and its list, in both choices.
void expect_same_choice(const Choice& a, const Choice& b, std::int64_t n, const std::string& what) {
  const std::int64_t M = a.z.dim(3), N = a.z.dim(2);
  for (std::int64_t h = 0; h < a.z.dim(1); ++h) {
    const std::int64_t row = h * N + n;
    EXPECT_EQ(std::memcmp(a.z.data<float>() + row * M, b.z.data<float>() + row * M,
                          static_cast<std::size_t>(M) * sizeof(float)),
              0)
        << what << ": scores of group " << n;
    EXPECT_EQ(list_at(a.lists, row), list_at(b.lists, row)) << what << ": list of group " << n;
  }
}

// What strict causality promises: the choice for a group sees no token after the group's first one,
// and of the keys only those of blocks that end before the block of that token.
TEST(GateScores, LaterTokensNeverReachTheChoice) {
  const std::vector<BlockGrid> grids = {grid_of(1, 2, 150, 1, 16), grid_of(1, 2, 150, 16, 16),
                                        grid_of(1, 2, 401, 64, 16), grid_of(1, 2, 300, 16, 64),
                                        grid_of(1, 2, 700, 128, 128)};
  for (const std::string& name : implementation_names<GateScores>())
    for (const BlockGrid& grid : grids) {
      const std::int64_t S = grid.query_length;
      const Tensor q = random_normal({S, 8}, 1).to(DType::f32);
      const Tensor k = random_normal({S, 8}, 2).to(DType::f32);
      const Choice before = choose(grid, q, k, name);
      const std::int64_t step = std::max<std::int64_t>(1, grid.groups() / 7);
      for (std::int64_t n = 0; n < grid.groups(); n += step) {
        SCOPED_TRACE(str(name, ", ", describe(grid)));
        const std::int64_t first = n * grid.query_block;
        expect_same_choice(
            before, choose(grid, perturbed(q, first + 1, S), perturbed(k, first + 1, S), name), n,
            "later tokens");
        const std::int64_t block = first - first % grid.key_block;
        expect_same_choice(before, choose(grid, q, perturbed(k, block, S), name), n,
                           "keys of the unfinished block");
      }
    }
}

// The counterpart: what the choice may see, it does see.
TEST(GateScores, TheLastFinishedBlockAndTheFirstTokenReachTheChoice) {
  const BlockGrid grid = grid_of(1, 1, 100, 16, 16);
  const Tensor q = random_normal({100, 8}, 1).to(DType::f32);
  const Tensor k = random_normal({100, 8}, 2).to(DType::f32);
  const auto row = [&](const Tensor& q, const Tensor& k) {
    const Tensor z = choose(grid, q, k, "cpu").z;
    return std::vector<float>(z.data<float>() + 4 * 7, z.data<float>() + 4 * 7 + 4);
  };
  const std::vector<float> before = row(q, k);
  EXPECT_NE(row(perturbed(q, 64, 65), k), before);
  const std::vector<float> after = row(q, perturbed(k, 63, 64));
  EXPECT_NE(after[3], before[3]);
  EXPECT_EQ(after[2], before[2]);
}

TEST(GateScores, BackwardIsTheGradient) {
  for (const std::string& name : implementation_names<GateScores>())
    for (const BlockGrid& grid :
         {grid_of(2, 2, 50, 4, 8), with_documents(grid_of(1, 2, 50, 4, 8), {0, 13}),
          grid_of(1, 2, 40, 8, 8, false)}) {
      SCOPED_TRACE(str(name, ", ", describe(grid)));
      ExecutionContext context;
      context.forced_kernels["*"] = name;
      expect_kernel_gradients(
          {random_normal(groups_of(grid, 3), 1), random_normal(blocks_of(grid, 3), 2)},
          [&](const Tensors& in) -> Tensors {
            const Tensor z = scores(grid, in[0], in[1], name);
            for (double& value : z.span<double>())
              if (std::isinf(value)) value = 0;  // constants
            return {z};
          },
          [&](const Tensors& in, const Tensors& dz) -> Tensors {
            const Tensor dqg = context.empty(in[0].shape(), DType::f64);
            const Tensor dkg = context.empty(in[1].shape(), DType::f64);
            dispatch<GateScoresBackward>({grid, kScale, in[0], in[1], dz[0], dqg, dkg}, context);
            return {dqg, dkg};
          });
    }
}

TEST(GateScores, WorkCountsCandidates) {
  const BlockGrid grid = grid_of(1, 2, 64, 16, 16);  // 0 + 1 + 2 + 3 candidates
  EXPECT_EQ(candidate_count(grid), 6);
  const Tensor qg = Tensor::zeros(groups_of(grid, 4), DType::f32);
  const Work work =
      GateScores::work({grid, 1.0, qg, qg, Tensor::zeros(scores_of(grid), DType::f32)});
  EXPECT_EQ(work.flops, 2 * 6 * 8);
  EXPECT_EQ(work.dense_flops, 2 * 16 * 8);
}

TEST(GateScores, RefuseQueriesBeyondTheKeys) {
  ExecutionContext context;
  BlockGrid grid = grid_of(1, 1, 32, 16, 16);
  grid.query_offset = 16;
  const Tensor x = context.zeros({2, 4}, DType::f32);
  const auto reason =
      GateScores::reject({grid, 1.0, x, x, context.zeros({4}, DType::f32)}, context);
  ASSERT_TRUE(reason.has_value());
  EXPECT_EQ(*reason, "queries up to position 48 among 32 keys");
}

}  // namespace
}  // namespace filigree::testing
