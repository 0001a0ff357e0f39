#include "kernels/embedding/embedding.hpp"

#include <gtest/gtest.h>

#include "tests/harness/kernel_gradcheck.hpp"
#include "tests/harness/kernel_parity.hpp"

namespace filigree::testing {
namespace {

struct Case {
  std::int64_t tokens, rows, columns, first_row;
};
const std::vector<Case> kCases = {{0, 4, 3, 0},    {1, 1, 1, 0},    {7, 5, 33, 0},
                                  {7, 5, 33, 3},   {9, 0, 4, 2},    {40, 11, 64, 5},
                                  {40, 11, 65, 0}, {70, 6, 129, 2}, {600, 50, 130, 10}};

// Tokens that fall before, into and behind the table, most rows several times.
std::vector<std::int32_t> ids_of(const Case& c) {
  std::vector<std::int32_t> ids;
  for (std::int64_t t = 0; t < c.tokens; ++t)
    ids.push_back(static_cast<std::int32_t>(t * 7 % (c.rows + c.first_row + 2)));
  return ids;
}

TEST(Embedding, ForwardMatchesTheReference) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(str("tokens ", c.tokens, " columns ", c.columns));
    expect_parity<EmbeddingForward>([&](TensorSource& source) {
      return EmbeddingForward::Arguments{.ids_T = source.integers(ids_of(c)),
                                         .w_VD = source.input({c.rows, c.columns}),
                                         .y_TD = source.output("y", {c.tokens, c.columns}),
                                         .first_row = c.first_row};
    });
  }
}

TEST(Embedding, BackwardMatchesTheReference) {
  for (const Case& c : kCases)
    for (const bool accumulate : {false, true}) {
      SCOPED_TRACE(str("tokens ", c.tokens, " columns ", c.columns, " accumulate ", accumulate));
      expect_parity<EmbeddingBackward>([&](TensorSource& source) {
        const Shape table{c.rows, c.columns};
        return EmbeddingBackward::Arguments{
            .ids_T = source.integers(ids_of(c)),
            .dy_TD = source.input({c.tokens, c.columns}),
            .dw_VD = accumulate ? source.updated("dw", table, {}, source.accumulation())
                                : source.output("dw", table, source.accumulation()),
            .first_row = c.first_row,
            .accumulate = accumulate};
      });
    }
}

TEST(Embedding, SplitTablesAddUpToTheWhole) {
  const std::vector<std::int32_t> ids = {4, 0, 2, 2, -1, 3};
  const Tensor w = random_normal({5, 3}, 1);
  ExecutionContext context;
  const auto look_up = [&](const Tensor& rows, std::int64_t first_row) {
    const Tensor y = context.empty({6, 3}, DType::f64);
    dispatch<EmbeddingForward>({.ids_T = Tensor::from<std::int32_t>({6}, ids),
                                .w_VD = rows,
                                .y_TD = y,
                                .first_row = first_row},
                               context);
    return y;
  };
  const Tensor low = look_up(w.rows(0, 2), 0), high = look_up(w.rows(2, 5), 2);
  for (std::int64_t t = 0; t < 6; ++t)
    for (std::int64_t d = 0; d < 3; ++d) {
      const double expected = ids[t] < 0 ? 0.0 : w.data<double>()[ids[t] * 3 + d];
      EXPECT_EQ(low.data<double>()[t * 3 + d] + high.data<double>()[t * 3 + d], expected);
    }
}

TEST(Embedding, BackwardIsTheGradient) {
  const Case c{20, 6, 5, 2};
  for (const std::string& name : implementation_names<EmbeddingBackward>()) {
    SCOPED_TRACE(name);
    ExecutionContext context;
    context.forced_kernels["*"] = name;
    const Tensor ids = Tensor::from<std::int32_t>({c.tokens}, ids_of(c));
    expect_kernel_gradients(
        {random_normal({c.rows, c.columns}, 1)},
        [&](const Tensors& in) -> Tensors {
          const Tensor y = context.empty({c.tokens, c.columns}, DType::f64);
          dispatch<EmbeddingForward>(
              {.ids_T = ids, .w_VD = in[0], .y_TD = y, .first_row = c.first_row}, context);
          return {y};
        },
        [&](const Tensors& in, const Tensors& dy) -> Tensors {
          const Tensor dw = context.empty(in[0].shape(), DType::f64);
          dispatch<EmbeddingBackward>(
              {.ids_T = ids, .dy_TD = dy[0], .dw_VD = dw, .first_row = c.first_row}, context);
          return {dw};
        });
  }
}

}  // namespace
}  // namespace filigree::testing
