#include "kernels/elementwise/elementwise.hpp"

#include <gtest/gtest.h>

#include <array>

#include "kernels/elementwise/floating.hpp"
#include "tests/harness/kernel_parity.hpp"

namespace filigree::testing {
namespace {

const std::vector<std::int64_t> kSizes = {0, 1, 7, 31, 33, 16383, 16384, 16385, 70000};

TEST(Elementwise, AddMatchesTheReference) {
  for (const std::int64_t size : kSizes) {
    SCOPED_TRACE(size);
    expect_parity<Add>([&](TensorSource& source) {
      return Add::Arguments{
          .a = source.input({size}), .b = source.input({size}), .y = source.output("y", {size})};
    });
  }
}

TEST(Elementwise, AddWorksInPlace) {
  expect_parity<Add>([](TensorSource& source) {
    const Tensor y = source.updated("y", {100});
    return Add::Arguments{.a = y, .b = source.input({100}), .y = y};
  });
  expect_parity<Add>([](TensorSource& source) {
    const Tensor y = source.updated("y", {100});
    return Add::Arguments{.a = source.input({100}), .b = y, .y = y};
  });
}

TEST(Elementwise, ScaleMatchesTheReferenceInEveryPairOfDtypes) {
  for (const DType from : {DType::f64, DType::f32, DType::bf16})
    for (const DType to : {DType::f64, DType::f32, DType::bf16})
      for (const std::int64_t size : kSizes)
        for (const bool accumulate : {false, true}) {
          if (size == 70000 && from != to) continue;
          SCOPED_TRACE(str(name_of(from), " to ", name_of(to), " size ", size));
          const Build<Scale> build = [&](TensorSource& source) {
            return Scale::Arguments{.x = source.input({size}, {}, from),
                                    .y = accumulate ? source.updated("y", {size}, {}, to)
                                                    : source.output("y", {size}, to),
                                    .factor = 0.37,
                                    .accumulate = accumulate};
          };
          // Arithmetic is in f32 unless one side is f64, so the bound is that of the narrower side.
          expect_parity<Scale>(build, {.dtypes = {DType::bf16}, .threads = {1, 2}});
        }
}

TEST(Elementwise, ScaleTakesAFactorFromMemory) {
  const Tensor by = Tensor::from<double>({1}, std::array{-0.61});
  for (const std::int64_t size : {1, 33, 16385})
    for (const bool accumulate : {false, true}) {
      SCOPED_TRACE(str("size ", size, " accumulate ", accumulate));
      expect_parity<Scale>([&](TensorSource& source) {
        return Scale::Arguments{
            .x = source.input({size}),
            .y = accumulate ? source.updated("y", {size}) : source.output("y", {size}),
            .factor = 3.0,
            .accumulate = accumulate,
            .by = source.given(by)};
      });
    }
  for (const std::string& name : implementation_names<Scale>()) {
    ExecutionContext context;
    context.forced_kernels["*"] = name;
    const Tensor y = context.empty({1}, DType::f64);
    dispatch<Scale>(
        {.x = Tensor::from<double>({1}, std::array{2.0}), .y = y, .factor = 3.0, .by = by},
        context);
    EXPECT_DOUBLE_EQ(*y.data<double>(), -3.66) << name;
  }
}

TEST(Elementwise, CastRoundsToNearestEven) {
  // 1 + 2^-8 lies halfway between the bf16 neighbours 1 and 1 + 2^-7; 1 + 3 * 2^-8 between odd and
  // even.
  const std::vector<double> x = {1 + 0x1p-8, 1 + 3 * 0x1p-8, 1 + 0x1p-8 + 0x1p-40,
                                 1 + 0x1p-8 - 0x1p-40, -1 - 0x1p-8 - 0x1p-40};
  const std::vector<float> expected = {1.0f, 1 + 0x1p-6f, 1 + 0x1p-7f, 1.0f, -1 - 0x1p-7f};
  for (const std::string& name : implementation_names<Scale>()) {
    ExecutionContext context;
    context.forced_kernels["*"] = name;
    const Tensor y = context.empty({5}, DType::bf16);
    dispatch<Scale>({.x = Tensor::from<double>({5}, x), .y = y}, context);
    for (int i = 0; i < 5; ++i)
      EXPECT_EQ(static_cast<float>(y.data<BFloat16>()[i]), expected[i]) << name << " of " << x[i];
  }
}

Tensor one_stream(std::uint64_t stream) {
  return Tensor::from<std::int64_t>({1}, std::array{static_cast<std::int64_t>(stream)});
}

Tensor dropped(const Tensor& x, double rate, std::int64_t first_row, const std::string& name,
               std::uint64_t stream = 3) {
  ExecutionContext context;
  context.forced_kernels["*"] = name;
  const Tensor y = context.empty(x.shape(), x.dtype());
  dispatch<Dropout>({.x_TD = x,
                     .y_TD = y,
                     .rate = rate,
                     .seed = 11,
                     .stream = one_stream(stream),
                     .first_row = first_row},
                    context);
  return y;
}

TEST(Dropout, MatchesTheReference) {
  for (const Shape& shape :
       {Shape{0, 3}, Shape{1, 1}, Shape{3, 511}, Shape{1, 512}, Shape{1, 513}, Shape{5, 700}}) {
    SCOPED_TRACE(str(shape));
    expect_parity<Dropout>([&](TensorSource& source) {
      return Dropout::Arguments{.x_TD = source.input(shape),
                                .y_TD = source.output("y", shape),
                                .rate = 0.3,
                                .seed = 5,
                                .stream = source.given(one_stream(2)),
                                .first_row = 7};
    });
  }
}

TEST(Dropout, EveryImplementationGivesTheSameBits) {
  for (const double rate : {0.0, 0.1, 0.5, 1 - 0x1p-53}) {
    SCOPED_TRACE(rate);
    const Build<Dropout> build = [&](TensorSource& source) {
      return Dropout::Arguments{.x_TD = source.input({20, 77}),
                                .y_TD = source.output("y", {20, 77}),
                                .rate = rate,
                                .seed = 0x123456789abcdefull,
                                .stream = source.given(one_stream(0xfedcba9876543210ull)),
                                .first_row = std::int64_t{1} << 33};
    };
    expect_reference_bits<Dropout>(build, {DType::f64, DType::f32, DType::bf16});
  }
}

TEST(Dropout, MaskDoesNotDependOnTheSplitOfRows) {
  const Tensor x = random_normal({10, 13}, 1);
  for (const std::string& name : implementation_names<Dropout>()) {
    const Tensor whole = dropped(x, 0.5, 100, name);
    for (const auto& [begin, end] : {std::pair{0, 3}, {3, 4}, {4, 10}}) {
      const Tensor part = dropped(x.rows(begin, end), 0.5, 100 + begin, name);
      for (std::int64_t i = 0; i < part.numel(); ++i)
        EXPECT_EQ(part.data<double>()[i], whole.data<double>()[begin * 13 + i]) << name;
    }
  }
}

TEST(Dropout, KeepsTheMeanAndTheShareOfElements) {
  const Tensor x = Tensor::empty({200, 500}, DType::f64);
  for (double& value : x.span<double>()) value = 1;
  const Tensor y = dropped(x, 0.2, 0, "cpu");
  double sum = 0, kept = 0;
  for (const double value : y.span<double>()) {
    sum += value;
    kept += value != 0;
  }
  // 100,000 draws: five standard deviations of the share are 0.0063.
  EXPECT_NEAR(kept / 1e5, 0.8, 0.0064);
  EXPECT_NEAR(sum / 1e5, 1.0, 0.008);
}

TEST(Dropout, StreamsDifferAndRateZeroKeepsAll) {
  const Tensor x = random_normal({20, 20}, 1);
  const Tensor a = dropped(x, 0.5, 0, "cpu", 1), b = dropped(x, 0.5, 0, "cpu", 2);
  int differing = 0;
  for (int i = 0; i < 400; ++i)
    differing += (a.data<double>()[i] == 0) != (b.data<double>()[i] == 0);
  EXPECT_NEAR(differing, 200, 50);
  const Tensor all = dropped(x, 0.0, 0, "cpu");
  for (int i = 0; i < 400; ++i) EXPECT_EQ(all.data<double>()[i], x.data<double>()[i]);
}

TEST(Dropout, RefusesARateOfOne) {
  ExecutionContext context;
  const Tensor x = context.zeros({1, 1}, DType::f32);
  const auto reason = Dropout::reject({.x_TD = x, .y_TD = x, .rate = 1.0}, context);
  ASSERT_TRUE(reason.has_value());
  EXPECT_EQ(*reason, "rate 1 is outside [0, 1)");
}

TEST(Dispatch, EveryOpNamesItsReasonsWhenNothingAccepts) {
  ExecutionContext context;
  const Tensor a = context.zeros({2}, DType::f32), b = context.zeros({3}, DType::f32);
  try {
    dispatch<Add>({.a = a, .b = b, .y = a}, context);
    FAIL() << "sizes 2 and 3 were added";
  } catch (const InternalError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("add: no implementation accepts"), std::string::npos) << text;
    EXPECT_NE(text.find("reference: b is [3], expected 2 elements"), std::string::npos) << text;
    EXPECT_NE(text.find("cpu: b is [3], expected 2 elements"), std::string::npos) << text;
  }
}

TEST(Dispatch, CountsTheWorkOfEveryCall) {
  ExecutionContext context;
  const Tensor a = context.zeros({10}, DType::f32);
  dispatch<Add>({.a = a, .b = a, .y = a}, context);
  dispatch<Add>({.a = a, .b = a, .y = a}, context);
  EXPECT_EQ(context.work.total().flops, 20);
  EXPECT_EQ(context.work.total().bytes, 240);
}

}  // namespace
}  // namespace filigree::testing
