#include "kernels/matmul/matmul.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <thread>

#include "kernels/cpu/tile_kernels.hpp"
#include "kernels/elementwise/floating.hpp"
#include "runtime/core/random.hpp"
#include "tests/harness/bits.hpp"

namespace filigree {
namespace {

using testing::same_bits;

struct Case {
  std::int64_t m, n, k;
  bool transpose_a, transpose_b, accumulate;
  DType in, out;
  bool biased = false;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.m << 'x' << c.n << 'x' << c.k << ' ' << name_of(c.in) << "->" << name_of(c.out)
             << (c.transpose_a ? " a^T" : "") << (c.transpose_b ? " b^T" : "")
             << (c.accumulate ? " +=" : "") << (c.biased ? " + bias" : "");
}

Tensor random_tensor(const Shape& shape, DType dtype, std::uint64_t stream) {
  const Philox random(7, RandomPurpose::test, stream);
  Tensor values = Tensor::empty(shape, DType::f64);
  for (std::int64_t i = 0; i < values.numel(); ++i) values.data<double>()[i] = random.normal(i);
  return values.to(dtype);
}

Tensor nan_tensor(const Shape& shape, DType dtype) {
  Tensor values = Tensor::empty(shape, DType::f64);
  for (double& value : values.span<double>()) value = std::numeric_limits<double>::quiet_NaN();
  return values.to(dtype);
}

Matmul::Arguments arguments_for(const Case& c) {
  Matmul::Arguments a;
  a.a = random_tensor(c.transpose_a ? Shape{c.k, c.m} : Shape{c.m, c.k}, c.in, 1);
  a.b = random_tensor(c.transpose_b ? Shape{c.n, c.k} : Shape{c.k, c.n}, c.in, 2);
  a.c = c.accumulate ? random_tensor({c.m, c.n}, c.out, 3) : nan_tensor({c.m, c.n}, c.out);
  a.transpose_a = c.transpose_a;
  a.transpose_b = c.transpose_b;
  a.accumulate = c.accumulate;
  if (c.biased) a.bias = random_tensor({c.n}, c.out, 4);
  return a;
}

// A copy whose operands and result are of `dtype`.
Matmul::Arguments converted(const Matmul::Arguments& from, DType dtype) {
  Matmul::Arguments to = from;
  to.a = from.a.to(dtype);
  to.b = from.b.to(dtype);
  to.c = from.c.to(dtype);
  if (from.bias.defined()) to.bias = from.bias.to(dtype);
  return to;
}

Tensor run(Matmul::Arguments arguments, const char* implementation, int threads = 1) {
  arguments.c = arguments.c.clone();
  ExecutionContext context;
  context.num_threads = threads;
  context.forced_kernels["matmul"] = implementation;
  dispatch<Matmul>(arguments, context);
  return arguments.c;
}

bool accepts(const char* name, const Matmul::Arguments& arguments) {
  for (const auto& candidate : kernel_table().implementations<Matmul>())
    if (candidate.name == name) return !candidate.reject(arguments, ExecutionContext{});
  return false;
}

double unit_in_last_place(double value, DType dtype) {
  const int digits = dtype == DType::f64 ? 52 : dtype == DType::f32 ? 23 : 7;
  return value == 0.0 ? 0.0 : std::ldexp(1.0, std::ilogb(value) - digits);
}

Tensor magnitudes(const Tensor& values) {
  Tensor result = values.to(DType::f64).clone();
  for (double& value : result.span<double>()) value = std::abs(value);
  return result;
}

// The truth, and what each element adds up in magnitude, sum_p |a| |b| + |c| + |bias|: rounding
// errors are proportional to it.
struct Truth {
  explicit Truth(const Matmul::Arguments& arguments) {
    Matmul::Arguments sizes = converted(arguments, DType::f64);
    exact = run(sizes, "reference");
    sizes.a = magnitudes(arguments.a);
    sizes.b = magnitudes(arguments.b);
    sizes.c = magnitudes(arguments.c);
    if (arguments.bias.defined()) sizes.bias = magnitudes(arguments.bias);
    magnitude = run(sizes, "reference");
  }
  // The largest error of any element of `got`, as a share of its magnitude.
  double largest_error(const Tensor& got) const {
    double largest = 0;
    for (std::int64_t e = 0; e < exact.numel(); ++e)
      largest = std::max(
          largest, std::abs(got.data<double>()[e] - exact.data<double>()[e]) / at(magnitude, e));
    return largest;
  }
  static double at(const Tensor& values, std::int64_t e) { return values.data<double>()[e]; }
  Tensor exact, magnitude;
};

// The error that plain loops in the precision of `arguments` make, as a share of the magnitude. The
// f64 loops are the truth here, so theirs is taken from f32 loops on the same numbers rounded to
// f32, times the ratio of the precisions.
double plain_error(const Matmul::Arguments& arguments, const Truth& truth) {
  if (arguments.a.dtype() != DType::f64)
    return truth.largest_error(run(arguments, "reference").to(DType::f64));
  const Matmul::Arguments rounded = converted(arguments, DType::f32);
  return 0x1.0p-29 * plain_error(rounded, Truth(rounded));
}

// Every element is off by at most twice what plain loops may be off by, plus one unit in the last
// place.
void expect_parity(const Tensor& got, const Truth& truth, double plain_error, DType dtype) {
  const Tensor values = got.to(DType::f64);
  for (std::int64_t e = 0; e < values.numel(); ++e) {
    const double exact = Truth::at(truth.exact, e);
    const double allowed =
        2 * plain_error * Truth::at(truth.magnitude, e) + unit_in_last_place(exact, dtype);
    ASSERT_LE(std::abs(Truth::at(values, e) - exact), allowed)
        << "element " << e;  // a NaN fails too
  }
}

// With and without a bias in turn: whoever keeps plans for the sizes must tell them apart.
void for_each_form(const std::function<void(bool, bool, bool, bool)>& body) {
  for (const bool transpose_a : {false, true})
    for (const bool transpose_b : {false, true})
      for (const bool accumulate : {false, true})
        for (const bool biased : {false, true, false})
          body(transpose_a, transpose_b, accumulate, biased);
}

struct Sizes {
  std::int64_t m, n, k;
};
// Zeros, ones, odd sizes; one below, at and above the tiles of the f64 product (96 x 32, depth
// 256); several tiles.
const Sizes kSizes[] = {{0, 3, 4},     {3, 0, 4},     {3, 4, 0},    {1, 1, 1},
                        {1, 7, 5},     {5, 1, 3},     {7, 9, 1},    {95, 31, 255},
                        {96, 32, 256}, {97, 33, 257}, {33, 31, 17}, {193, 65, 270}};

class MatmulParity : public ::testing::TestWithParam<std::pair<DType, DType>> {};

TEST_P(MatmulParity, EveryImplementationIsAsExactAsPlainLoops) {
  int checked = 0;
  for (const Sizes& s : kSizes) {
    for_each_form([&](bool transpose_a, bool transpose_b, bool accumulate, bool biased) {
      const Case c{s.m,
                   s.n,
                   s.k,
                   transpose_a,
                   transpose_b,
                   accumulate,
                   GetParam().first,
                   GetParam().second,
                   biased};
      const Matmul::Arguments arguments = arguments_for(c);
      const Truth truth(arguments);
      const double allowed = plain_error(arguments, truth);
      for (const char* name : {"cpu", "onednn"}) {
        if (!accepts(name, arguments)) continue;
        SCOPED_TRACE(::testing::Message() << name << ' ' << c);
        expect_parity(run(arguments, name, 2), truth, allowed, c.out);
        ++checked;
      }
    });
  }
  EXPECT_GE(checked, 24 * 12);
}

INSTANTIATE_TEST_SUITE_P(
    DTypes, MatmulParity,
    ::testing::Values(std::pair(DType::f64, DType::f64), std::pair(DType::f32, DType::f32),
                      std::pair(DType::bf16, DType::bf16), std::pair(DType::bf16, DType::f32)),
    [](const auto& info) {
      return str(name_of(info.param.first), "_to_", name_of(info.param.second));
    });

TEST(MatmulReference, MultipliesByHand) {
  const double a[] = {1, 2, 3, 4, 5, 6}, b[] = {7, 8, 9, 10, 11, 12}, c[] = {100, 200, 300, 400};
  Matmul::Arguments arguments{Tensor::from<double>({2, 3}, a), Tensor::from<double>({3, 2}, b),
                              Tensor::from<double>({2, 2}, c)};
  const auto expect = [&](std::vector<double> values) {
    EXPECT_TRUE(same_bits(run(arguments, "reference"), Tensor::from<double>({2, 2}, values)));
  };
  expect({58, 64, 139, 154});
  arguments.accumulate = true;
  expect({158, 264, 439, 554});
  arguments.bias = Tensor::from<double>({2}, std::array{1000.0, 2000.0});
  expect({1158, 2264, 1439, 2554});
  arguments.accumulate = false;
  expect({1058, 2064, 1139, 2154});
  arguments.bias = {};
  arguments.a = arguments.a.view({3, 2});  // read as [[1, 2], [3, 4], [5, 6]]^T
  arguments.transpose_a = true;
  expect({7 + 27 + 55, 8 + 30 + 60, 14 + 36 + 66, 16 + 40 + 72});
  arguments.b = arguments.b.view({2, 3});  // read as [[7, 8, 9], [10, 11, 12]]^T
  arguments.transpose_b = true;
  expect({7 + 24 + 45, 10 + 33 + 60, 14 + 32 + 54, 20 + 44 + 72});
}

TEST(Matmul, EmptyDepthClearsOrKeeps) {
  for (const char* name : {"reference", "cpu", "onednn"}) {
    Matmul::Arguments arguments =
        arguments_for({2, 3, 0, false, false, false, DType::f32, DType::f32});
    EXPECT_TRUE(same_bits(run(arguments, name), Tensor::zeros({2, 3}, DType::f32))) << name;
    arguments = arguments_for({2, 3, 0, false, false, true, DType::f32, DType::f32});
    EXPECT_TRUE(same_bits(run(arguments, name), arguments.c)) << name;
  }
}

TEST(Matmul, EmptyDepthWithABiasGivesItOnEveryRow) {
  const float c[] = {1, 2, 3, 4}, bias[] = {10, 20}, rows[] = {10, 20, 10, 20},
              sums[] = {11, 22, 13, 24};
  for (const char* name : {"reference", "cpu", "onednn"}) {
    Matmul::Arguments arguments{Tensor::empty({2, 0}, DType::f32),
                                Tensor::empty({0, 2}, DType::f32), Tensor::from<float>({2, 2}, c)};
    arguments.bias = Tensor::from<float>({2}, bias);
    EXPECT_TRUE(same_bits(run(arguments, name), Tensor::from<float>({2, 2}, rows))) << name;
    arguments.accumulate = true;
    EXPECT_TRUE(same_bits(run(arguments, name), Tensor::from<float>({2, 2}, sums))) << name;
  }
}

// In bf16, whose numbers from 256 on are even, 256 + 1 is 256: a bias of 1 added after rounding
// would leave it there, one added before makes 258.
TEST(Matmul, TheBiasIsAddedBeforeRounding) {
  const float a[] = {256, 1}, b[] = {1, 1}, bias[] = {1};
  for (const char* name : {"reference", "cpu", "onednn"}) {
    Matmul::Arguments arguments{Tensor::from<float>({1, 2}, a).to(DType::bf16),
                                Tensor::from<float>({2, 1}, b).to(DType::bf16),
                                nan_tensor({1, 1}, DType::bf16)};
    arguments.bias = Tensor::from<float>({1}, bias).to(DType::bf16);
    if (!accepts(name, arguments)) continue;
    EXPECT_EQ(run(arguments, name).to(DType::f32).data<float>()[0], 258.0f) << name;
  }
}

TEST(Matmul, TiledProductHasTheSameBitsOnAnyNumberOfThreads) {
  for (const DType dtype : {DType::f64, DType::f32}) {
    const auto arguments = arguments_for({250, 130, 300, false, true, false, dtype, dtype});
    const Tensor one = run(arguments, "cpu", 1);
    for (const int threads : {2, 3, 5})
      EXPECT_TRUE(same_bits(one, run(arguments, "cpu", threads))) << threads;
  }
}

TEST(Matmul, OneDnnRepeatsItsBits) {
  for (const int threads : {1, 2}) {
    const auto arguments = arguments_for({70, 65, 2000, true, false, true, DType::f32, DType::f32});
    const Tensor first = run(arguments, "onednn", threads);
    for (int i = 0; i < 5; ++i) EXPECT_TRUE(same_bits(first, run(arguments, "onednn", threads)));
  }
}

// Ranks may be threads of one process.
TEST(Matmul, RunsOnSeveralThreadsAtOnce) {
  const auto arguments = arguments_for({65, 66, 67, false, true, false, DType::f32, DType::f32});
  const Tensor expected = run(arguments, "onednn");
  std::vector<Tensor> results(4);
  std::vector<std::thread> ranks;
  for (Tensor& result : results)
    ranks.emplace_back([&] {
      for (int i = 0; i < 20; ++i) result = run(arguments, "onednn");
    });
  for (std::thread& rank : ranks) rank.join();
  for (const Tensor& result : results) EXPECT_TRUE(same_bits(expected, result));
}

TEST(Matmul, DispatchPicksOneDnnForFloatAndTilesForDouble) {
  const ExecutionContext context;
  const auto picked = [&](DType dtype) {
    return select_implementation<Matmul>(
               arguments_for({4, 4, 4, false, false, false, dtype, dtype}), context)
        .name;
  };
  EXPECT_EQ(picked(DType::f32), "onednn");
  EXPECT_EQ(picked(DType::f64), "cpu");
}

TEST(Matmul, SaysWhyItCannotRun) {
  auto arguments = arguments_for({2, 2, 2, false, false, false, DType::f64, DType::f64});
  const auto message = [&](const char* name) -> std::string {
    try {
      run(arguments, name);
    } catch (const InternalError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(message("onednn").find("not f64"), std::string::npos);
  arguments.b = random_tensor({2, 2}, DType::f32, 1);
  EXPECT_NE(message("cpu").find("a is f64 but b is f32"), std::string::npos);
  arguments.b = random_tensor({3, 2}, DType::f64, 1);
  EXPECT_NE(message("cpu").find("[3, 2]"), std::string::npos);
  arguments.b = random_tensor({2, 2}, DType::f64, 1);
  arguments.bias = random_tensor({3}, DType::f64, 1);
  EXPECT_NE(message("cpu").find("bias, for c [2, 2]"), std::string::npos);
  arguments.bias = random_tensor({2}, DType::f32, 1);
  EXPECT_NE(message("cpu").find("c is f64 but bias is f32"), std::string::npos);
}

TEST(Matmul, CountsItsWork) {
  ExecutionContext context;
  dispatch<Matmul>(arguments_for({3, 5, 7, true, false, true, DType::bf16, DType::f32}), context);
  EXPECT_EQ(context.work.total().flops, 2 * 3 * 5 * 7);
  EXPECT_EQ(context.work.total().bytes, 2 * (3 * 7 + 5 * 7) + 2 * 4 * 3 * 5);
  ExecutionContext biased;
  dispatch<Matmul>(arguments_for({3, 5, 7, true, false, false, DType::bf16, DType::f32, true}),
                   biased);
  EXPECT_EQ(biased.work.total().flops, 2 * 3 * 5 * 7 + 3 * 5);
  EXPECT_EQ(biased.work.total().bytes, 2 * (3 * 7 + 5 * 7) + 4 * 3 * 5 + 4 * 5);
}

// The set that dispatch would not choose on this processor must be right too.
template <class T>
void check_product_of_every_set() {
  for (const CpuKernels* const* set = available_cpu_kernels(); *set != nullptr; ++set) {
    for (const std::int64_t m : {1, 4, 5, 6, 8, 12, 13, 29}) {
      const std::int64_t n = 40, k = 19, stride = padded_to_lanes<T>(n);
      const Tensor a = random_tensor({k, m}, dtype_of<T>, 1),
                   b = random_tensor({k, stride}, dtype_of<T>, 2);
      const Tensor c = nan_tensor({m, stride}, dtype_of<T>);
      (*set)->of<T>().product(
          {m, n, k, a.data<T>(), 1, m, b.data<T>(), stride, c.data<T>(), stride, false});
      for (std::int64_t i = 0; i < m; ++i) {
        for (std::int64_t j = 0; j < n; ++j) {
          double exact = 0, size = 0;
          for (std::int64_t p = 0; p < k; ++p) {
            const double term =
                double(a.data<T>()[p * m + i]) * double(b.data<T>()[p * stride + j]);
            exact += term;
            size += std::abs(term);
          }
          ASSERT_NEAR(c.data<T>()[i * stride + j], exact,
                      k * size * std::numeric_limits<T>::epsilon())
              << (*set)->isa << ' ' << m << ": " << i << ' ' << j;
        }
      }
    }
  }
}

TEST(TileKernels, ProductOfEveryInstructionSet) {
  check_product_of_every_set<float>();
  check_product_of_every_set<double>();
}

// exp through row_values, against the library's, down to results that are no longer normal numbers.
template <class T>
void check_exponential_of_every_set(double lowest_normal) {
  for (const CpuKernels* const* set = available_cpu_kernels(); *set != nullptr; ++set) {
    std::vector<T> x, v;
    for (double value = 0; value > lowest_normal; value += lowest_normal / 4001)
      x.push_back(T(value));
    x.push_back(T(2 * lowest_normal));
    x.push_back(-std::numeric_limits<T>::infinity());
    v.assign(x.size(), T(1));
    std::vector<T> p = x;
    T out = 0;
    const T sum =
        (*set)->of<T>().row_values({std::int64_t(x.size()), 1, T(0), p.data(), v.data(), 1, &out});
    double total = 0;
    for (std::size_t i = 0; i + 2 < x.size(); ++i) {
      const double exact = std::exp(double(x[i]));
      ASSERT_NEAR(p[i], exact, 1.5 * std::numeric_limits<T>::epsilon() * exact)
          << (*set)->isa << ' ' << x[i];
      total += exact;
    }
    EXPECT_EQ(p[x.size() - 2], T(0));
    EXPECT_EQ(p[x.size() - 1], T(0));
    EXPECT_NEAR(sum, total, total * 1e-5);
    EXPECT_NEAR(out, total, total * 1e-5);
  }
}

TEST(TileKernels, ExponentialOfEveryInstructionSet) {
  check_exponential_of_every_set<float>(-87.0);
  check_exponential_of_every_set<double>(-708.0);
}

}  // namespace
}  // namespace filigree
