#include <gtest/gtest.h>

#include <cmath>

#include "kernels/gate/head_gate.hpp"
#include "tests/harness/kernel_gradcheck.hpp"
#include "tests/harness/kernel_parity.hpp"
#include "tests/kernels/gate_cases.hpp"

namespace filigree::testing {
namespace {

Tensor first_head_dense(const BlockGrid& grid) {
  const Tensor dense = Tensor::zeros({grid.heads}, DType::u8);
  dense.data<std::uint8_t>()[0] = grid.heads > 1;
  return dense;
}

ExecutionContext context_for(const std::string& name) {
  ExecutionContext context;
  context.forced_kernels["*"] = name;
  return context;
}

// 70 columns: more than are summed at once.
TEST(FinishedKeyMean, MatchesTheReference) {
  for (const BlockGrid& grid : gate_grids()) {
    SCOPED_TRACE(describe(grid));
    const Shape keys{grid.batch * grid.key_blocks(), 70}, groups{grid.batch * grid.groups(), 70};
    expect_parity<FinishedKeyMean>([&](TensorSource& source) {
      return FinishedKeyMean::Arguments{placed(source, grid), source.input(keys),
                                        source.output("y", groups)};
    });
    expect_parity<FinishedKeyMeanBackward>([&](TensorSource& source) {
      return FinishedKeyMeanBackward::Arguments{placed(source, grid), source.input(groups),
                                                source.output("dkbar", keys)};
    });
  }
}

TEST(HeadGate, MatchesTheReference) {
  for (const std::int64_t rows : {0, 1, 37, 9000}) {
    SCOPED_TRACE(rows);
    expect_parity<HeadGateForward>([&](TensorSource& source) {
      return HeadGateForward::Arguments{source.input({rows, 3}), source.input({rows, 3}),
                                        source.output("s", {rows, 3}, source.accumulation())};
    });
    expect_parity<HeadGateBackward>([&](TensorSource& source) {
      return HeadGateBackward::Arguments{source.input({rows, 3}, {}, source.accumulation()),
                                         source.input({rows, 3}, {}, source.accumulation()),
                                         source.output("d", {rows, 3})};
    });
  }
}

TEST(ScaleHeads, MatchesTheReference) {
  for (const BlockGrid& grid : gate_grids()) {
    SCOPED_TRACE(describe(grid));
    const Shape rows{grid.batch * grid.query_length, grid.heads * 9};
    const Shape scores{grid.batch * grid.groups(), grid.heads};
    const Tensor dense = first_head_dense(grid);
    expect_parity<ScaleHeads>([&](TensorSource& source) {
      return ScaleHeads::Arguments{placed(source, grid), source.input(rows),
                                   source.input(scores, {}, source.accumulation()),
                                   source.given(dense), source.output("y", rows)};
    });
    expect_parity<ScaleHeadsBackward>([&](TensorSource& source) {
      return ScaleHeadsBackward::Arguments{placed(source, grid),
                                           source.input(rows),
                                           source.input(scores, {}, source.accumulation()),
                                           source.given(dense),
                                           source.input(rows),
                                           source.output("do", rows),
                                           source.output("ds", scores, source.accumulation())};
    });
  }
}

std::vector<double> numbers(const Tensor& values) {
  const auto span = values.span<double>();
  return {span.begin(), span.end()};
}

// Groups and blocks of two over seven tokens, a document from token 4 on: groups 0 and 2 begin
// documents; group 1 has block 0 behind it, group 3 block 2.
TEST(HeadGate, MatchesAHandComputedCase) {
  const BlockGrid grid = with_documents(grid_of(1, 2, 7, 2, 2), {0, 4});
  for (const std::string& name : implementation_names<HeadGateForward>()) {
    ExecutionContext context = context_for(name);
    const Tensor y = context.empty({4, 1}, DType::f64);
    dispatch<FinishedKeyMean>({grid, Tensor::from<double>({4, 1}, std::array{3., 5., 7., 9.}), y},
                              context);
    EXPECT_EQ(numbers(y), (std::vector<double>{0, 3, 0, 7}));
    BlockGrid plain = grid;
    plain.document_begin_T = Tensor();
    dispatch<FinishedKeyMean>({plain, Tensor::from<double>({4, 1}, std::array{3., 5., 7., 9.}), y},
                              context);
    EXPECT_EQ(numbers(y), (std::vector<double>{0, 3, 4, 5}));
    const Tensor s = context.empty({1, 2}, DType::f64);
    dispatch<HeadGateForward>({Tensor::from<double>({1, 2}, std::array{1., -2.}),
                               Tensor::from<double>({1, 2}, std::array{-1., -1.}), s},
                              context);
    EXPECT_EQ(s.data<double>()[0], 0.5);
    EXPECT_NEAR(s.data<double>()[1], 1.0 / (1.0 + std::exp(3.0)), 1e-15);
  }
}

TEST(HeadGate, BackwardsAreTheGradients) {
  for (const std::string& name : implementation_names<HeadGateForward>())
    for (const BlockGrid& grid :
         {grid_of(2, 2, 19, 3, 4), with_documents(grid_of(1, 2, 30, 4, 4), {0, 9, 16})}) {
      SCOPED_TRACE(str(name, ", ", describe(grid)));
      ExecutionContext context = context_for(name);
      const auto empty = [&](const Shape& shape) { return context.empty(shape, DType::f64); };
      const Shape keys{grid.batch * grid.key_blocks(), 3}, groups{grid.batch * grid.groups(), 3};
      expect_kernel_gradients(
          {random_normal(keys, 1)},
          [&](const Tensors& in) -> Tensors {
            const Tensor y = empty(groups);
            dispatch<FinishedKeyMean>({grid, in[0], y}, context);
            return {y};
          },
          [&](const Tensors&, const Tensors& d) -> Tensors {
            const Tensor dkbar = empty(keys);
            dispatch<FinishedKeyMeanBackward>({grid, d[0], dkbar}, context);
            return {dkbar};
          });
      const Shape rows{grid.batch * grid.query_length, 6}, scores{grid.batch * grid.groups(), 2};
      const Tensor dense = first_head_dense(grid);
      expect_kernel_gradients(
          {random_normal(scores, 1), random_normal(scores, 2), random_normal(rows, 3)},
          [&](const Tensors& in) -> Tensors {
            const Tensor s = empty(scores), y = empty(rows);
            dispatch<HeadGateForward>({in[0], in[1], s}, context);
            dispatch<ScaleHeads>({grid, in[2], s, dense, y}, context);
            return {y};
          },
          [&](const Tensors& in, const Tensors& d) -> Tensors {
            const Tensor s = empty(scores), ds = empty(scores), logits = empty(scores);
            const Tensor d_o = empty(rows);
            dispatch<HeadGateForward>({in[0], in[1], s}, context);
            dispatch<ScaleHeadsBackward>({grid, in[2], s, dense, d[0], d_o, ds}, context);
            dispatch<HeadGateBackward>({s, ds, logits}, context);
            return {logits, logits, d_o};
          });
    }
}

}  // namespace
}  // namespace filigree::testing
