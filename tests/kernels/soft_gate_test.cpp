#include "kernels/gate/soft_gate.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/harness/kernel_gradcheck.hpp"
#include "tests/harness/kernel_parity.hpp"
#include "tests/kernels/gate_cases.hpp"

namespace filigree::testing {
namespace {

Shape scores_of(const BlockGrid& grid) {
  return {grid.batch, grid.heads, grid.groups(), grid.key_blocks()};
}

Tensor last_head_dense(const BlockGrid& grid) {
  const Tensor dense = Tensor::zeros({grid.heads}, DType::u8);
  dense.data<std::uint8_t>()[grid.heads - 1] = grid.heads > 1;
  return dense;
}

const std::vector<DType> kWide = {DType::f64, DType::f32};

TEST(SoftGateBias, MatchesTheReference) {
  for (const BlockGrid& grid : gate_grids()) {
    SCOPED_TRACE(describe(grid));
    const Lists lists = random_lists(grid, 5, 4);
    const Tensor dense = last_head_dense(grid);
    expect_parity<SoftGateBias>(
        [&](TensorSource& source) {
          return SoftGateBias::Arguments{placed(source, grid),
                                         source.input(scores_of(grid)),
                                         source.given(lists.counts),
                                         source.given(lists.indices),
                                         source.given(dense),
                                         source.output("bias", lists.indices.shape()),
                                         0.7};
        },
        {.dtypes = kWide});
    for (const bool accumulate : {false, true})
      expect_parity<SoftGateBiasBackward>(
          [&](TensorSource& source) {
            return SoftGateBiasBackward::Arguments{placed(source, grid),
                                                   source.input(scores_of(grid)),
                                                   source.given(lists.counts),
                                                   source.given(lists.indices),
                                                   source.given(dense),
                                                   source.input(lists.indices.shape()),
                                                   accumulate
                                                       ? source.updated("dz", scores_of(grid))
                                                       : source.output("dz", scores_of(grid)),
                                                   accumulate,
                                                   0.7};
          },
          {.dtypes = kWide});
  }
}

Tensor bias_of(const BlockGrid& grid, const Tensor& z, const Lists& lists, const Tensor& dense,
               const std::string& name) {
  ExecutionContext context;
  context.forced_kernels["*"] = name;
  const Tensor bias = context.empty(lists.indices.shape(), z.dtype());
  dispatch<SoftGateBias>({grid, z, lists.counts, lists.indices, dense, bias}, context);
  return bias;
}

// Blocks and groups of 2: group 5 has the candidates 0..4; with a budget of 4 it lists 0, 2, 4, 5.
TEST(SoftGateBias, MatchesAHandDerivedCase) {
  const BlockGrid grid = grid_of(1, 1, 12, 2, 2);
  const Tensor z = Tensor::zeros({1, 1, 6, 6}, DType::f64);
  const std::vector<double> last = {0.5, 0.25, 0.75, -3.0, 0.0, 100.0};  // block 5 has no score
  std::copy(last.begin(), last.end(), z.data<double>() + 5 * 6);
  const Lists lists = select(grid, z, {.budget = 4});
  ASSERT_EQ(list_at(lists, 5), (std::vector<std::int32_t>{0, 2, 4, 5}));
  for (const std::string& name : implementation_names<SoftGateBias>()) {
    const Tensor bias = bias_of(grid, z, lists, {}, name);
    const double* row = bias.data<double>() + 5 * 6;
    EXPECT_EQ(std::vector<double>(row, row + 6), (std::vector<double>{-0.25, 0, -0.75, 0, 0, 0}))
        << name;
    EXPECT_EQ(bias.data<double>()[0], 0) << "group 0 has the diagonal only";
  }
}

// exp(bias) is the gate's probability over that of the best chosen block.
TEST(SoftGateBias, IsTheLogarithmOfRelativeProbability) {
  const BlockGrid grid = grid_of(1, 1, 200, 16, 16);
  const Tensor z = random_scores(grid, 6);
  const Lists lists = select(grid, z, {.budget = 6});
  const Tensor bias = bias_of(grid, z, lists, {}, "cpu");
  const std::int64_t M = grid.key_blocks(), n = grid.groups() - 1;
  double sum = 0, best = 0;
  for (std::int64_t m = 0; m < n; ++m) sum += std::exp(z.data<double>()[n * M + m]);
  const std::vector<std::int32_t> list = list_at(lists, n);
  for (const std::int32_t m : list)
    if (m < n) best = std::max(best, std::exp(z.data<double>()[n * M + m]) / sum);
  for (std::size_t s = 0; s + 1 < list.size(); ++s)
    EXPECT_NEAR(bias.data<double>()[n * M + static_cast<std::int64_t>(s)],
                std::log(std::exp(z.data<double>()[n * M + list[s]]) / sum / best), 1e-13);
}

TEST(SoftGateBias, BackwardIsTheGradient) {
  for (const std::string& name : implementation_names<SoftGateBias>())
    for (const BlockGrid& grid :
         {grid_of(2, 2, 60, 4, 4), with_documents(grid_of(1, 2, 60, 4, 4), {0, 17}),
          grid_of(1, 2, 40, 4, 4, false)}) {
      SCOPED_TRACE(str(name, ", ", describe(grid)));
      const Lists lists = random_lists(grid, 6, 4);
      const Tensor dense = last_head_dense(grid);
      ExecutionContext context;
      context.forced_kernels["*"] = name;
      expect_kernel_gradients(
          {random_scores(grid, 1)},
          [&](const Tensors& in) -> Tensors { return {bias_of(grid, in[0], lists, dense, name)}; },
          [&](const Tensors& in, const Tensors& d) -> Tensors {
            const Tensor dz = context.empty(in[0].shape(), DType::f64);
            dispatch<SoftGateBiasBackward>(
                {grid, in[0], lists.counts, lists.indices, dense, d[0], dz}, context);
            return {dz};
          });
    }
}

}  // namespace
}  // namespace filigree::testing
