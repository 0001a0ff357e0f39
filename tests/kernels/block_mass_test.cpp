#include "kernels/gate/block_mass.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/harness/kernel_parity.hpp"
#include "tests/kernels/gate_cases.hpp"

namespace filigree::testing {
namespace {

struct Case {
  BlockGrid grid;
  std::int64_t kv_heads, width;
  std::vector<std::int32_t> groups;
  Shape q() const { return {grid.batch * grid.query_length, grid.heads * width}; }
  Shape k() const { return {grid.batch * grid.key_length, kv_heads * width}; }
  Shape rows() const { return {grid.batch, grid.heads, static_cast<std::int64_t>(groups.size())}; }
  Shape teacher() const { return {rows()[0], rows()[1], rows()[2], grid.key_blocks()}; }
};

std::vector<Case> cases() {
  std::vector<Case> result;
  for (const BlockGrid& grid : gate_grids()) {
    const std::int64_t kv_heads = grid.key_block == 16 ? grid.heads : 1;
    result.push_back({grid, kv_heads, grid.query_block == 16 ? 12 : 16, sampled_groups(grid)});
  }
  return result;
}

// Logits well below 1, so that rounding the product weighs alike in every row. The statistics
// differ in one fold only, so that each is not needed on every grid.
TEST(BlockMassTeacher, MatchesTheReference) {
  const auto small = [](double z) { return 0.15 * z; };
  const std::vector<Case> all = cases();
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Case& c = all[i];
    SCOPED_TRACE(describe(c.grid));
    const Tensor dense = Tensor::zeros({c.grid.heads}, DType::u8);
    dense.data<std::uint8_t>()[c.grid.heads - 1] = c.grid.heads > 1;
    const auto build = [&](TensorSource& source) {
      const DType wide = source.accumulation();
      return BlockMassTeacher::Arguments{
          .grid = placed(source, c.grid),
          .kv_heads = c.kv_heads,
          .scale = 0.4,
          .statistic = i % 2 == 0 ? BlockStatistic::maximum : BlockStatistic::mass,
          .q_THK = source.input(c.q(), small),
          .k_TGK = source.input(c.k(), small),
          .groups_R = source.integers(c.groups),
          .dense_heads_H = source.given(dense),
          .teacher_BHRM = source.output("teacher", c.teacher(), wide),
          .weight_BHR = source.output("weight", c.rows(), wide),
          .entropy_BHR = source.output("entropy", c.rows(), wide),
          .largest_BHR = source.output("largest", c.rows(), wide)};
    };
    expect_parity<BlockMassTeacher>(build, {.threads = {1, 3}});
  }
}

// From the rules, query by query and key by key.
std::int64_t visible_pairs(const BlockGrid& grid, const std::vector<std::int32_t>& groups) {
  std::int64_t pairs = 0;
  const std::int64_t first_group = grid.query_offset / grid.query_block;
  for (std::int64_t b = 0; b < grid.batch; ++b)
    for (std::int64_t p = grid.query_offset; p < grid.query_offset + grid.query_length; ++p) {
      const auto n = static_cast<std::int32_t>(p / grid.query_block - first_group);
      if (std::find(groups.begin(), groups.end(), n) == groups.end()) continue;
      for (std::int64_t key = 0; key < grid.key_length; ++key)
        pairs += !grid.causal || (key <= p && key >= document_of(grid, b, p));
    }
  return pairs;
}

TEST(CountGroupPairs, CountsWhatTheQueriesOfTheGroupsSee) {
  for (const BlockGrid& grid : gate_grids()) {
    SCOPED_TRACE(describe(grid));
    const std::vector<std::int32_t> groups = sampled_groups(grid);
    const Build<CountGroupPairs> build = [&](TensorSource& source) {
      return CountGroupPairs::Arguments{.grid = placed(source, grid),
                                        .groups_R = source.integers(groups),
                                        .pairs = source.output("pairs", {2}, DType::i64)};
    };
    const auto counted =
        run_implementation<CountGroupPairs>(build, "reference", DType::f32, false, 1);
    for (const std::int64_t pairs : counted[0].tensor.span<std::int64_t>())
      EXPECT_EQ(pairs, visible_pairs(grid, groups));
    expect_reference_bits<CountGroupPairs>(build, {DType::f32});
  }
}

struct Taught {
  Tensor teacher, weight, entropy, largest;
};

Taught teach(const Case& c, const Tensor& q, const Tensor& k, BlockStatistic statistic,
             const std::string& name, const Tensor& dense = {}) {
  ExecutionContext context;
  context.forced_kernels["*"] = name;
  const DType wide = accumulation_dtype(q.dtype());
  const Taught taught{context.empty(c.teacher(), wide), context.empty(c.rows(), wide),
                      context.empty(c.rows(), wide), context.empty(c.rows(), wide)};
  dispatch<BlockMassTeacher>({c.grid, c.kv_heads, 0.4, statistic, q, k, i32(c.groups), dense,
                              taught.teacher, taught.weight, taught.entropy, taught.largest},
                             context);
  return taught;
}

// The definition through the whole matrix of probabilities of one head.
struct Oracle {
  std::vector<double> g;
  double entropy = 0, largest = -1e300;

  Oracle(const Case& c, const Tensor& q, const Tensor& k, std::int64_t b, std::int64_t h,
         std::int64_t n, BlockStatistic statistic)
      : g(static_cast<std::size_t>(c.grid.key_blocks()), 0.0) {
    const BlockGrid& grid = c.grid;
    std::int64_t queries = 0;
    for (std::int64_t p = std::max(grid.query_offset, grid.first_position(n));
         p < grid.end_position(n); ++p, ++queries) {
      std::vector<std::pair<std::int64_t, double>> s;
      double sum = 0, own = 0;
      for (std::int64_t j = 0; j < grid.key_length; ++j) {
        if (!may_read(grid, b, p, j)) continue;
        double product = 0;
        for (std::int64_t d = 0; d < c.width; ++d)
          product += q.data<double>()[(b * grid.query_length + p - grid.query_offset) * q.dim(1) +
                                      h * c.width + d] *
                     k.data<double>()[(b * grid.key_length + j) * k.dim(1) +
                                      h / (grid.heads / c.kv_heads) * c.width + d];
        s.emplace_back(j, 0.4 * product);
        sum += std::exp(0.4 * product);
      }
      for (const auto& [j, logit] : s) {
        const double probability = std::exp(logit) / sum;
        double& at = g[static_cast<std::size_t>(j / grid.key_block)];
        at = statistic == BlockStatistic::maximum ? std::max(at, probability) : at + probability;
        own -= probability * std::log(probability);
        largest = std::max(largest, logit);
      }
      if (s.size() > 1) entropy += own / std::log(static_cast<double>(s.size()));
    }
    entropy /= static_cast<double>(queries);
    double total = 0;
    for (std::size_t m = 0; m < g.size(); ++m) {
      if (!has_score(grid, b, n, static_cast<std::int64_t>(m))) g[m] = 0;
      total += g[m];
    }
    if (total > 0)
      for (double& value : g) value /= total;
  }
};

TEST(BlockMassTeacher, IsThePooledAttentionMap) {
  for (const std::string& name : implementation_names<BlockMassTeacher>())
    for (const Case& c : cases())
      for (const BlockStatistic statistic : {BlockStatistic::maximum, BlockStatistic::mass}) {
        SCOPED_TRACE(str(name, ", ", describe(c.grid)));
        const Tensor q = random_normal(c.q(), 1), k = random_normal(c.k(), 2);
        const Taught taught = teach(c, q, k, statistic, name);
        const std::int64_t R = c.rows()[2], H = c.grid.heads, M = c.grid.key_blocks();
        for (std::int64_t row = 0; row < c.rows().numel(); ++row) {
          const std::int64_t n = c.groups[static_cast<std::size_t>(row % R)];
          const Oracle oracle(c, q, k, row / (H * R), row / R % H, n, statistic);
          std::int64_t scored = 0;
          for (std::int64_t m = 0; m < M; ++m) {
            EXPECT_NEAR(taught.teacher.data<double>()[row * M + m],
                        oracle.g[static_cast<std::size_t>(m)], 1e-12);
            scored += has_score(c.grid, row / (H * R), n, m);
          }
          EXPECT_EQ(taught.weight.data<double>()[row], scored >= 2 ? 1.0 : 0.0) << "row " << row;
          EXPECT_NEAR(taught.entropy.data<double>()[row], oracle.entropy, 1e-12);
          EXPECT_NEAR(taught.largest.data<double>()[row], oracle.largest, 1e-12);
        }
      }
}

// Equal keys: every query spreads evenly, so each block's largest probability is the same, its mass
// goes by its keys, and the entropy is that of a uniform distribution.
TEST(BlockMassTeacher, OfEqualKeysIsUniform) {
  const Case c{grid_of(1, 1, 80, 16, 16), 1, 4, {4}};
  const Tensor q = random_normal(c.q(), 1), k = Tensor::zeros(c.k(), DType::f64);
  for (const std::string& name : implementation_names<BlockMassTeacher>()) {
    const Taught taught = teach(c, q, k, BlockStatistic::mass, name);
    for (int m = 0; m < 5; ++m)
      EXPECT_NEAR(taught.teacher.data<double>()[m], m < 4 ? 0.25 : 0.0, 1e-14) << name;
    EXPECT_NEAR(taught.entropy.data<double>()[0], 1.0, 1e-14) << name;
  }
}

// Logits of 400 overflow exp in f32; the streamed form does not.
TEST(BlockMassTeacher, TakesLargeLogits) {
  const Case c{grid_of(1, 1, 64, 16, 16), 1, 4, {3}};
  const Tensor q = Tensor::zeros(c.q(), DType::f32), k = Tensor::zeros(c.k(), DType::f32);
  for (std::int64_t t = 0; t < 64; ++t)
    q.data<float>()[4 * t] = 100, k.data<float>()[4 * t] = t == 20 ? 10.0f : -10.0f;
  for (const std::string& name : implementation_names<BlockMassTeacher>()) {
    const Taught taught = teach(c, q, k, BlockStatistic::maximum, name);
    EXPECT_EQ(taught.teacher.data<float>()[1], 1.0f) << name;
    EXPECT_EQ(taught.teacher.data<float>()[0], 0.0f) << name;
    EXPECT_FLOAT_EQ(taught.largest.data<float>()[0], 400.0f) << name;
    EXPECT_NEAR(taught.entropy.data<float>()[0], 0.0f, 1e-6) << name;
  }
}

TEST(BlockMassTeacher, DenseHeadsCarryNoWeight) {
  const Case c{grid_of(1, 2, 100, 16, 16), 1, 4, {6, 3}};
  const Tensor dense = Tensor::zeros({2}, DType::u8);
  dense.data<std::uint8_t>()[0] = 1;
  for (const std::string& name : implementation_names<BlockMassTeacher>()) {
    const Taught taught = teach(c, random_normal(c.q(), 1), random_normal(c.k(), 2),
                                BlockStatistic::maximum, name, dense);
    const auto weight = taught.weight.span<double>();
    EXPECT_EQ(std::vector<double>(weight.begin(), weight.end()), (std::vector<double>{0, 0, 1, 1}));
  }
}

}  // namespace
}  // namespace filigree::testing
