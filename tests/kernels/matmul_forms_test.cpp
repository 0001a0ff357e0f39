// Every implementation in every form: sizes, transposes, accumulation, bias, dtypes.
#include <gtest/gtest.h>

#include "kernels/matmul/matmul.hpp"
#include "tests/harness/kernel_parity.hpp"

namespace filigree::testing {
namespace {

struct MatmulForm {
  std::int64_t m, n, k;
  bool transpose_a, transpose_b, accumulate, biased;
};

Build<Matmul> build_of(const MatmulForm& f, std::optional<DType> out = {}) {
  return [=](TensorSource& source) {
    const Shape result{f.m, f.n};
    return Matmul::Arguments{
        .a = source.input(f.transpose_a ? Shape{f.k, f.m} : Shape{f.m, f.k}),
        .b = source.input(f.transpose_b ? Shape{f.n, f.k} : Shape{f.k, f.n}),
        .c = f.accumulate ? source.updated("c", result, {}, out) : source.output("c", result, out),
        .transpose_a = f.transpose_a,
        .transpose_b = f.transpose_b,
        .accumulate = f.accumulate,
        .bias = f.biased ? source.input({f.n}, {}, out) : Tensor()};
  };
}

// oneDNN's bits depend on the number of threads.
const ParityOptions kOneThread{.threads = {1, 1}};

TEST(MatmulForms, MatchTheReference) {
  const std::int64_t sizes[][3] = {{0, 3, 4}, {3, 0, 4},    {3, 4, 0},    {1, 1, 1},
                                   {1, 7, 5}, {33, 31, 17}, {65, 64, 63}, {20, 130, 70}};
  for (const auto& [m, n, k] : sizes)
    for (int form = 0; form < 16; ++form) {
      const MatmulForm f{
          m, n, k, (form & 1) != 0, (form & 2) != 0, (form & 4) != 0, (form & 8) != 0};
      SCOPED_TRACE(str(m, " x ", n, " x ", k, " form ", form));
      expect_parity<Matmul>(build_of(f), kOneThread);
    }
}

TEST(MatmulForms, Bf16IntoF32KeepsTheSum) {
  for (const bool accumulate : {false, true})
    for (const bool biased : {false, true})
      expect_parity<Matmul>(build_of({40, 50, 60, false, true, accumulate, biased}, DType::f32),
                            {.dtypes = {DType::bf16}, .threads = {1, 1}});
}

// A plan that is kept for the sizes serves products with a bias or those without.
TEST(MatmulForms, OneShapeWithAndWithoutABiasInTurn) {
  for (const bool biased : {false, true, false, true}) {
    SCOPED_TRACE(biased);
    expect_parity<Matmul>(build_of({21, 22, 23, false, true, false, biased}), kOneThread);
  }
}

// What one call leaves in the plan of its sizes is not the next one's.
TEST(MatmulForms, OnePlanTakesTheBiasOfEachCall) {
  for (const std::int64_t first : {0, 256, 512}) {  // aligned alike
    SCOPED_TRACE(first);
    expect_parity<Matmul>(
        [&](TensorSource& source) {
          return Matmul::Arguments{.a = source.input({6, 5}),
                                   .b = source.input({5, 7}),
                                   .c = source.output("c", {6, 7}),
                                   .bias = source.input({1024}).flat(first, {7})};
        },
        kOneThread);
  }
}

// Rows of a larger tensor begin anywhere, as parameters in a flat buffer do.
TEST(MatmulForms, TakesOperandsOfAnyAlignment) {
  for (const std::int64_t first : {1, 2, 3, 5}) {
    SCOPED_TRACE(first);
    expect_parity<Matmul>(
        [&](TensorSource& source) {
          return Matmul::Arguments{.a = source.input({17, 13}).rows(first, 12),
                                   .b = source.input({23, 9}).rows(first, first + 13),
                                   .c = source.output("c", {12 - first, 9}),
                                   .bias = source.input({16}).flat(first, {9})};
        },
        kOneThread);
  }
}

}  // namespace
}  // namespace filigree::testing
