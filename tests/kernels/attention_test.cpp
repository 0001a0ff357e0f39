#include "tests/harness/bits.hpp"
#include "tests/kernels/attention_problem.hpp"

namespace filigree {
namespace {

using testing::same_bits;

void check_parity(const AttentionShape& shape, DType dtype) {
  const auto truth = solved(shape, DType::f64, dtype, "reference").outputs();
  const auto plain = plain_errors(shape, dtype);
  for (const char* name : fast_implementations(shape, dtype)) {
    const auto got = solved(shape, dtype, dtype, name, 2).outputs();
    for (std::size_t i = 0; i < got.size(); ++i)
      expect_within(got[i].second, truth[i].second, plain[i],
                    str(name, ": ", got[i].first, " in ", name_of(dtype), ", ", describe(shape)));
  }
}

const AttentionShape kShapes[] = {
    shape_of(1, 1, 1, 1, 1, 8),    // one query, one key
    shape_of(0, 5, 5, 2, 1, 8),    // no sequence
    shape_of(1, 0, 5, 2, 1, 8),    // no query
    shape_of(1, 5, 0, 2, 1, 8),    // no key
    shape_of(2, 7, 7, 2, 2, 16),   // odd
    shape_of(1, 63, 63, 1, 1, 8),  // one below, at and above a tile
    shape_of(1, 64, 64, 1, 1, 32),
    shape_of(1, 65, 65, 2, 1, 32),
    shape_of(1, 130, 130, 2, 1, 16),           // several tiles
    shape_of(1, 70, 70, 6, 2, 24),             // groups of 3, width that is not a multiple of 16
    shape_of(1, 33, 33, 2, 1, 20),             // width that is not a multiple of 8
    shape_of(1, 9, 9, 1, 1, 1),                // width 1
    shape_of(1, 20, 66, 1, 1, 256, 46),        // the widest head
    shape_of(2, 40, 100, 4, 1, 16, 60),        // the last queries of a longer sequence
    shape_of(1, 90, 40, 1, 1, 8, -30),         // queries before the first key
    shape_of(1, 66, 130, 2, 2, 16, 10),        // keys that no query may see
    shape_of(1, 70, 130, 2, 1, 16, 0, false),  // all keys
    shape_of(1, 20, 9, 1, 1, 8, -12),          // queries before the first key
    shape_of(1, 100, 40, 1, 1, 8, -30),        // whole tiles of them
    shape_of(2, 1, 700, 4, 2, 64, 699),        // decoding: one query, keys over several runs of 256
    shape_of(1, 3, 257, 2, 1, 20,
             254),  // decoding three at once, the first may not see the last key
    shape_of(1, 4, 513, 3, 3, 8, 0, false),
};

class AttentionParity : public ::testing::TestWithParam<DType> {};

TEST_P(AttentionParity, TilesAreAsExactAsPlainLoops) {
  for (const AttentionShape& shape : kShapes) check_parity(shape, GetParam());
}

INSTANTIATE_TEST_SUITE_P(DTypes, AttentionParity,
                         ::testing::Values(DType::f64, DType::f32, DType::bf16),
                         [](const auto& info) { return std::string(name_of(info.param)); });

TEST(Attention, FloatTilesStayWithinOneInHundredThousand) {
  const AttentionShape shape = shape_of(1, 300, 300, 2, 1, 64);
  const Problem got = solved(shape, DType::f32, DType::f32, "cpu");
  const Problem truth = solved(shape, DType::f64, DType::f32, "reference");
  for (std::size_t i = 0; i < got.outputs().size(); ++i) {
    const Tensor exact = truth.outputs()[i].second;
    const double size = largest_difference(exact, Tensor::zeros(exact.shape(), DType::f64));
    EXPECT_LE(largest_difference(got.outputs()[i].second, exact), 1e-5 * size)
        << got.outputs()[i].first;
  }
}

// The definition, against arithmetic that can be done by hand.
TEST(Attention, AveragesValuesWhenScoresAreEqual) {
  for (const char* name : {"reference", "cpu"}) {
    for (const std::int64_t length : {5, 70}) {
      Problem problem(shape_of(1, length, length, 1, 1, 8), DType::f64, DType::f64);
      problem.q.zero();
      problem.forward(name);
      double sum = 0;
      for (std::int64_t i = 0; i < length; ++i) {
        sum += problem.v.data<double>()[i * 8 + 3];
        EXPECT_NEAR(problem.o.data<double>()[i * 8 + 3], sum / double(i + 1), 1e-14)
            << name << ' ' << i;
        EXPECT_NEAR(problem.lse.data<double>()[i], std::log(double(i + 1)), 1e-14)
            << name << ' ' << i;
      }
    }
  }
}

// Perturbing key j changes the outputs of the queries from j on, and not one bit of those before.
TEST(Attention, LooksAtNoLaterKey) {
  for (const char* name : {"reference", "cpu"}) {
    const std::int64_t length = 130, offset = 3;
    Problem before(shape_of(1, length - offset, length, 1, 1, 8, offset), DType::f32, DType::f32);
    before.forward(name);
    for (const std::int64_t key : {3, 63, 64, 65, 128}) {
      Problem after(before.shape, DType::f32, DType::f32);
      after.k.data<float>()[key * 8] += 1.0f;
      after.v.data<float>()[key * 8] += 1.0f;
      after.forward(name);
      const std::int64_t first = key - offset;
      EXPECT_TRUE(same_bits(before.o.rows(0, first), after.o.rows(0, first)))
          << name << " key " << key;
      for (std::int64_t i = first; i < length - offset; ++i)
        EXPECT_FALSE(same_bits(before.o.rows(i, i + 1), after.o.rows(i, i + 1)))
            << name << ' ' << key << ' ' << i;
    }
  }
}

TEST(Attention, QueriesWithoutKeysGiveZerosAndPassNoGradient) {
  for (const char* name : {"reference", "cpu"}) {
    const Problem problem =
        solved(shape_of(1, 100, 40, 1, 1, 8, -30), DType::f32, DType::f32, name);
    for (std::int64_t i = 0; i < 30; ++i) {
      EXPECT_EQ(problem.lse.data<float>()[i], -std::numeric_limits<float>::infinity()) << name;
      for (std::int64_t d = 0; d < 8; ++d) {
        EXPECT_EQ(problem.o.data<float>()[i * 8 + d], 0.0f) << name;
        EXPECT_EQ(problem.dq.data<float>()[i * 8 + d], 0.0f) << name;
      }
    }
  }
}

TEST(Attention, SurvivesLargeScores) {
  Problem problem(shape_of(1, 80, 80, 1, 1, 8), DType::f32, DType::f32);
  for (float& value : problem.q.span<float>()) value *= 3e4f;
  problem.forward("cpu");
  for (const float value : problem.o.span<float>()) ASSERT_TRUE(std::isfinite(value));
  for (const float value : problem.lse.span<float>()) ASSERT_TRUE(std::isfinite(value));
}

TEST(Attention, HasTheSameBitsOnAnyNumberOfThreads) {
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    for (const AttentionShape& shape :
         {shape_of(2, 150, 150, 4, 2, 32), shape_of(1, 2, 900, 4, 1, 32, 898)}) {
      const Problem one = solved(shape, dtype, dtype, "cpu", 1);
      for (const int threads : {2, 3}) {
        const Problem more = solved(shape, dtype, dtype, "cpu", threads);
        for (std::size_t i = 0; i < one.outputs().size(); ++i)
          EXPECT_TRUE(same_bits(one.outputs()[i].second, more.outputs()[i].second))
              << one.outputs()[i].first << ' ' << describe(shape) << ' ' << threads;
      }
    }
  }
}

// <do, o(q, k, v)> along a random direction of one input, by central differences and by the
// backward.
void check_gradient(const AttentionShape& shape, const char* name, Tensor Problem::*input,
                    Tensor Problem::*gradient) {
  const Problem base = solved(shape, DType::f64, DType::f64, name);
  const Tensor direction = random_tensor((base.*input).shape(), DType::f64, 5);
  double expected = 0;
  for (std::int64_t e = 0; e < direction.numel(); ++e)
    expected += direction.data<double>()[e] * (base.*gradient).data<double>()[e];
  const double step = 1e-5;
  double change = 0;
  for (const double sign : {1.0, -1.0}) {
    Problem moved(shape, DType::f64, DType::f64);
    for (std::int64_t e = 0; e < direction.numel(); ++e)
      (moved.*input).data<double>()[e] += sign * step * direction.data<double>()[e];
    moved.forward(name);
    for (std::int64_t e = 0; e < moved.o.numel(); ++e)
      change += sign * moved.o.data<double>()[e] * moved.d_o.data<double>()[e];
  }
  EXPECT_NEAR(change / (2 * step), expected, 1e-6 * std::max(1.0, std::abs(expected)))
      << name << ' ' << describe(shape);
}

TEST(Attention, BackwardIsTheGradientOfForward) {
  const AttentionShape shapes[] = {shape_of(2, 9, 9, 4, 2, 8), shape_of(1, 70, 75, 2, 1, 16, 5),
                                   shape_of(1, 66, 68, 2, 2, 8, 0, false),
                                   shape_of(1, 12, 12, 3, 1, 8, -4)};
  for (const char* name : {"reference", "cpu"}) {
    for (const AttentionShape& shape : shapes) {
      check_gradient(shape, name, &Problem::q, &Problem::dq);
      check_gradient(shape, name, &Problem::k, &Problem::dk);
      check_gradient(shape, name, &Problem::v, &Problem::dv);
    }
  }
}

TEST(Attention, CountsAllowedPairsAndTheirWork) {
  EXPECT_EQ(allowed_pairs(shape_of(1, 4, 4, 1, 1, 8)), 1 + 2 + 3 + 4);
  EXPECT_EQ(allowed_pairs(shape_of(1, 4, 4, 1, 1, 8, 0, false)), 16);
  EXPECT_EQ(allowed_pairs(shape_of(1, 3, 4, 1, 1, 8, 2)), 3 + 4 + 4);
  EXPECT_EQ(allowed_pairs(shape_of(1, 4, 9, 1, 1, 8, -2)), 0 + 0 + 1 + 2);
  const Problem p(shape_of(3, 4, 4, 2, 1, 8), DType::f32, DType::f32);
  EXPECT_EQ(AttentionForward::work({p.shape, p.q, p.k, p.v, p.o, p.lse}).flops, 4 * 8 * 10 * 3 * 2);
  EXPECT_EQ(
      AttentionBackward::work({p.shape, p.q, p.k, p.v, p.o, p.lse, p.d_o, p.dq, p.dk, p.dv}).flops,
      10 * 8 * 10 * 3 * 2);
}

TEST(Attention, DispatchPicksTiles) {
  const Problem p(shape_of(1, 4, 4, 2, 1, 8), DType::bf16, DType::bf16);
  const ExecutionContext context;
  EXPECT_EQ(
      select_implementation<AttentionForward>({p.shape, p.q, p.k, p.v, p.o, p.lse}, context).name,
      "cpu");
}

TEST(Attention, NamesTheTensorThatDoesNotFit) {
  Problem p(shape_of(1, 4, 4, 2, 1, 8), DType::f32, DType::f32);
  p.k = random_tensor({4, 16}, DType::f32, 1);
  try {
    p.forward("cpu");
    FAIL() << "k of the wrong width was taken";
  } catch (const InternalError& error) {
    EXPECT_NE(std::string(error.what()).find("k_TGK"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace filigree
