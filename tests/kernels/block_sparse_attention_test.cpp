// Attention with patterns against attention under an explicit mask of queries x keys.
#include <algorithm>

#include "kernels/attention/attention_implementations.hpp"
#include "tests/harness/bits.hpp"
#include "tests/kernels/attention_patterns.hpp"

namespace filigree {
namespace {

using testing::same_bits;

constexpr std::int64_t kMasked = -2, kUnlisted = -1;

// For every (query, key) of one head: kMasked, kUnlisted, or the element of the bias.
std::vector<std::int64_t> slots_of_pairs(const PatternCase& c, const AttentionPattern& pattern,
                                         std::int64_t b, std::int64_t h) {
  const AttentionShape& s = c.shape;
  std::vector<std::int64_t> result(s.query_length * s.key_length, kMasked);
  std::vector<std::int32_t> document(s.key_length, 0), begin(s.key_length, 0);
  for (std::size_t d = 0, p = 0; d < c.documents.size(); ++d)
    for (const std::size_t end = p + c.documents[d], first = p; p < end; ++p)
      document[p] = std::int32_t(d), begin[p] = std::int32_t(first);
  for (std::int64_t i = 0; i < s.query_length; ++i) {
    for (std::int64_t j = 0; j < s.key_length; ++j) {
      const std::int64_t p = i + s.query_offset;
      if (s.causal && j > p) continue;
      if (!c.documents.empty() && document[j] != document[p]) continue;
      std::int64_t& pair = result[i * s.key_length + j];
      const std::int64_t first = c.documents.empty() ? 0 : begin[p];
      if (c.query_block == 0 && c.window == 0 && c.sinks == 0) pair = kUnlisted;
      if (std::abs(p - j) < c.window || j < first + c.sinks) pair = kUnlisted;
      if (c.query_block == 0) continue;
      const Tensor& indices = pattern.lists.indices_BHNJ;
      const std::int64_t group = p / c.query_block - s.query_offset / c.query_block;
      const std::int64_t list = ((b * s.query_heads + h) * indices.dim(2) + group) * indices.dim(3);
      for (std::int64_t slot = list; slot < list + indices.dim(3); ++slot)
        if (indices.data<std::int32_t>()[slot] == j / c.key_block) pair = slot;
    }
  }
  return result;
}

// Plain f64 loops over the whole matrix; fills the outputs of the problem.
void solve_masked(const PatternCase& c, Problem* x) {
  const AttentionShape& s = c.shape;
  const std::int64_t dim = s.head_dim, group = s.query_heads / s.kv_heads;
  for (Tensor* gradient : {&x->dq, &x->dk, &x->dv, &x->dbias})
    if (gradient->defined()) gradient->zero();
  x->o.zero();
  const auto at = [&](const Tensor& t, std::int64_t token, std::int64_t head) {
    return t.data<double>() + token * t.dim(1) + head * dim;
  };
  const auto dot = [&](const double* y, const double* z) {
    double sum = 0;
    for (std::int64_t d = 0; d < dim; ++d) sum += y[d] * z[d];
    return sum;
  };
  for (std::int64_t b = 0; b < s.batch; ++b)
    for (std::int64_t h = 0; h < s.query_heads; ++h) {
      const std::vector<std::int64_t> slots = slots_of_pairs(c, x->pattern, b, h);
      for (std::int64_t i = 0; i < s.query_length; ++i) {
        const std::int64_t t = b * s.query_length + i, u = b * s.key_length, g = h / group;
        const double *q = at(x->q, t, h), *d_o = at(x->d_o, t, h);
        double *o = at(x->o, t, h), *dq = at(x->dq, t, h);
        std::vector<double> p(s.key_length, 0.0), dp(s.key_length, 0.0);
        double sum = 0, delta = 0;
        for (std::int64_t j = 0; j < s.key_length; ++j) {
          const std::int64_t slot = slots[i * s.key_length + j];
          if (slot == kMasked) continue;
          const double bias = c.bias && slot >= 0 ? x->pattern.bias_BHNJ.data<double>()[slot] : 0;
          p[j] = std::exp(s.scale * dot(q, at(x->k, u + j, g)) + bias);
          sum += p[j];
        }
        x->lse.data<double>()[(b * s.query_heads + h) * s.query_length + i] = std::log(sum);
        if (sum == 0) continue;
        for (std::int64_t j = 0; j < s.key_length; ++j) {
          const double* const v = at(x->v, u + j, g);
          p[j] /= sum, dp[j] = dot(d_o, v);
          delta += p[j] * dp[j];
          for (std::int64_t d = 0; d < dim; ++d) o[d] += p[j] * v[d];
        }
        for (std::int64_t j = 0; j < s.key_length; ++j) {
          const double dlogit = p[j] * (dp[j] - delta);
          const std::int64_t slot = slots[i * s.key_length + j];
          if (c.bias && slot >= 0) x->dbias.data<double>()[slot] += dlogit;
          const double* const k = at(x->k, u + j, g);
          double *dk = at(x->dk, u + j, g), *dv = at(x->dv, u + j, g);
          for (std::int64_t d = 0; d < dim; ++d) {
            dv[d] += p[j] * d_o[d];
            dk[d] += s.scale * dlogit * q[d];
            dq[d] += s.scale * dlogit * k[d];
          }
        }
      }
    }
}

std::vector<PatternCase> sweep() {
  std::vector<PatternCase> cases;
  for (const std::int64_t query_block : {1, 3, 16, 24, 64, 128})
    for (const std::int64_t key_block : {16, 20, 64, 128})
      cases.push_back({shape_of(1, 200, 200, 2, 1, 16), query_block, key_block, 0.3, true});
  const AttentionShape causal = shape_of(2, 150, 150, 4, 2, 24);
  const AttentionShape full = shape_of(1, 150, 170, 2, 1, 20, 0, false);
  const AttentionShape later = shape_of(1, 70, 200, 2, 2, 8, 130);
  for (const std::int64_t query_block : {1, 16, 64}) {
    cases.push_back({causal, query_block, 16, 1.0, true});
    cases.push_back({causal, query_block, 32, 0.0, false});
    cases.push_back({causal, query_block, 16, 0.2, true, 20, 5});
    cases.push_back({causal, query_block, 32, 0.2, true, 9, 40});
    cases.push_back({causal, query_block, 64, 0.2, true, 13, 3, {1, 30, 70, 49}});
    cases.push_back({full, query_block, 16, 0.2, true});
    cases.push_back({full, query_block, 32, 0.2, true, 9, 4});
    cases.push_back({full, query_block, 64, 0.5, true, 3, 2, {100, 7, 63}});
    cases.push_back({later, query_block, 16, 0.3, true});
    cases.push_back({later, query_block, 32, 0.1, true, 40, 6, {137, 40, 23}});
  }
  for (const AttentionShape& shape : {causal, full, later}) {
    cases.push_back({shape, 0, 0, 0, false, 30, 0});
    cases.push_back({shape, 0, 0, 0, false, 0, 7});
    cases.push_back({shape, 0, 0, 0, false, 10, 70});
    cases.push_back({shape, 0, 0, 0, false, 5, 2, {80, 1, std::int32_t(shape.key_length) - 81}});
    cases.push_back({shape, 0, 0, 0, false, 0, 0, {64, 65, std::int32_t(shape.key_length) - 129}});
  }
  // Decoding, one token and three, and what has no rows at all.
  for (const std::int64_t query_block : {1, 16, 64})
    for (const std::int64_t queries : {1, 3})
      cases.push_back(
          {shape_of(2, queries, 400, 4, 2, 16, 397), query_block, 16, 0.2, true, 30, 4});
  cases.push_back({shape_of(1, 2, 300, 2, 1, 8, 298), 0, 0, 0, false, 0, 0, {100, 200}});
  cases.push_back({shape_of(1, 0, 20, 1, 1, 8), 1, 16, 0.5, true});
  cases.push_back({shape_of(1, 9, 0, 1, 1, 8), 1, 16, 0.5, true});
  cases.push_back({shape_of(1, 9, 0, 1, 1, 8), 16, 16, 0.5, true});
  cases.push_back({shape_of(1, 1, 1, 1, 1, 8), 1, 16, 1.0, true});
  return cases;
}

void expect_close(const Problem& got, const Problem& exact, const std::string& what) {
  const auto outputs = got.outputs(), truth = exact.outputs();
  for (std::size_t i = 0; i < truth.size(); ++i) {
    const auto& [name, values] = outputs[i];
    for (std::int64_t e = 0; e < values.numel(); ++e) {
      const double x = values.data<double>()[e], y = truth[i].second.data<double>()[e];
      ASSERT_LE(difference(x, y), 1e-12 * std::max(1.0, std::abs(y)))
          << what << ": " << name << " element " << e << " is " << x << ", not " << y;
    }
  }
}

TEST(BlockSparseAttention, EqualsAttentionUnderAMask) {
  for (const PatternCase& c : sweep()) {
    const AttentionPattern pattern = pattern_of(c);
    Problem exact(c.shape, DType::f64, DType::f64, 11, pattern);
    solve_masked(c, &exact);
    for (const char* name : {"reference", "portable", "cpu"})
      expect_close(solved(c.shape, DType::f64, DType::f64, name, 1, 11, pattern), exact,
                   str(name, ", ", describe(c)));
  }
}

void clear_head(const BlockLists& lists, std::int64_t head) {
  for (const Tensor& tensor : {lists.counts_BHN, lists.indices_BHNJ, lists.transposed_counts_BHM,
                               lists.transposed_indices_BHMN}) {
    const std::int64_t heads = tensor.dim(1), size = tensor.numel() / (tensor.dim(0) * heads);
    const std::int32_t nothing = tensor.rank() == 3 ? 0 : -1;
    for (std::int64_t b = 0; b < tensor.dim(0); ++b)
      std::fill_n(tensor.data<std::int32_t>() + (b * heads + head) * size, size, nothing);
  }
}

// In each of the three forms: a head that reads nothing at all, and every third slot silenced by a
// bias of -infinity, which leaves some rows without a key.
TEST(BlockSparseAttention, EqualsAttentionUnderAMaskWithEmptyHeadsAndSilencedBlocks) {
  const AttentionShape whole = shape_of(2, 150, 150, 4, 2, 24);
  const AttentionShape last = shape_of(2, 3, 400, 4, 2, 16, 397);
  for (const AttentionShape& shape : {whole, last})
    for (const std::int64_t query_block : {1, 16, 64}) {
      const PatternCase c{shape, query_block, 16, 0.3, true};
      const AttentionPattern pattern = pattern_of(c);
      clear_head(pattern.lists, 1);
      for (std::int64_t slot = 0; slot < pattern.bias_BHNJ.numel(); slot += 3)
        pattern.bias_BHNJ.data<double>()[slot] = -std::numeric_limits<double>::infinity();
      Problem exact(c.shape, DType::f64, DType::f64, 11, pattern);
      solve_masked(c, &exact);
      for (const char* name : {"reference", "portable", "cpu"})
        expect_close(solved(c.shape, DType::f64, DType::f64, name, 1, 11, pattern), exact,
                     str(name, ", ", describe(c)));
    }
}

class BlockSparseParity : public ::testing::TestWithParam<DType> {};

TEST_P(BlockSparseParity, TilesAreAsExactAsPlainLoops) {
  const std::vector<PatternCase> cases = {
      {shape_of(1, 150, 150, 4, 2, 32), 1, 16, 0.3, true},
      {shape_of(1, 150, 150, 2, 1, 24), 4, 64, 0.4, true, 20, 3},
      {shape_of(1, 150, 150, 2, 1, 20), 16, 16, 0.3, true, 20, 3},
      {shape_of(1, 200, 200, 2, 2, 16), 128, 64, 0.5, true},
      {shape_of(1, 100, 130, 2, 1, 16, 0, false), 1, 32, 0.3, true, 5, 2, {60, 70}},
      {shape_of(1, 2, 300, 4, 2, 32, 298), 1, 16, 0.5, true, 20, 2},
      // Groups that no tile divides, and groups that begin before the first query.
      {shape_of(1, 390, 390, 2, 1, 64), 192, 64, 0.5, true},
      {shape_of(1, 200, 240, 2, 1, 64, 40), 96, 64, 0.5, true},
  };
  const DType dtype = GetParam();
  for (const PatternCase& c : cases) {
    const AttentionPattern pattern = pattern_of(c);
    const auto truth = solved(c.shape, DType::f64, dtype, "reference", 1, 11, pattern).outputs();
    const auto plain = plain_errors(c.shape, dtype, pattern);
    for (const char* name : fast_implementations(c.shape, dtype, pattern)) {
      const auto got = solved(c.shape, dtype, dtype, name, 2, 11, pattern).outputs();
      for (std::size_t i = 0; i < got.size(); ++i)
        expect_within(got[i].second, truth[i].second, plain[i],
                      str(name, ": ", got[i].first, " in ", name_of(dtype), ", ", describe(c)));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, BlockSparseParity,
                         ::testing::Values(DType::f64, DType::f32, DType::bf16),
                         [](const auto& info) { return std::string(name_of(info.param)); });

// <do, o> along a random direction of one input, with the lists as they are.
TEST(BlockSparseAttention, BackwardIsTheGradientOfForward) {
  for (const std::int64_t query_block : {1, 16}) {
    const PatternCase c{shape_of(1, 70, 75, 4, 2, 8, 5), query_block, 16, 0.4, true, 6, 3};
    const AttentionPattern pattern = pattern_of(c);
    const Problem base = solved(c.shape, DType::f64, DType::f64, "cpu", 1, 11, pattern);
    const auto output_along = [&](const auto& input_of, const Tensor& direction, double step) {
      Problem moved(c.shape, DType::f64, DType::f64, 11, pattern);
      const Tensor input = input_of(moved);
      for (std::int64_t e = 0; e < input.numel(); ++e)
        input.data<double>()[e] += step * direction.data<double>()[e];
      moved.forward("cpu");
      double sum = 0;
      for (std::int64_t e = 0; e < moved.o.numel(); ++e)
        sum += moved.o.data<double>()[e] * moved.d_o.data<double>()[e];
      return sum;
    };
    const auto check = [&](const auto& input_of, const Tensor& gradient, const char* what) {
      const Tensor direction = random_tensor(gradient.shape(), DType::f64, 5);
      double expected = 0;
      for (std::int64_t e = 0; e < direction.numel(); ++e)
        expected += direction.data<double>()[e] * gradient.data<double>()[e];
      const double step = 1e-5;
      const double change =
          output_along(input_of, direction, step) - output_along(input_of, direction, -step);
      EXPECT_NEAR(change / (2 * step), expected, 1e-6 * std::max(1.0, std::abs(expected)))
          << what << ", " << describe(c);
    };
    check([](const Problem& x) { return x.q; }, base.dq, "q");
    check([](const Problem& x) { return x.k; }, base.dk, "k");
    check([](const Problem& x) { return x.v; }, base.dv, "v");
    check([](const Problem& x) { return x.pattern.bias_BHNJ; }, base.dbias, "bias");
  }
}

TEST(BlockSparseAttention, HasTheSameBitsOnAnyNumberOfThreads) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const std::int64_t query_block : {1, 16}) {
      const PatternCase c{shape_of(1, 2100, 2100, 2, 1, 16), query_block, 64, 0.1, true, 9, 3};
      const AttentionPattern pattern = pattern_of(c);
      const Problem one = solved(c.shape, dtype, dtype, "cpu", 1, 11, pattern);
      for (const int threads : {2, 3}) {
        const Problem more = solved(c.shape, dtype, dtype, "cpu", threads, 11, pattern);
        for (std::size_t i = 0; i < one.outputs().size(); ++i)
          EXPECT_TRUE(same_bits(one.outputs()[i].second, more.outputs()[i].second))
              << one.outputs()[i].first << ' ' << describe(c) << ' ' << threads;
      }
    }
  }
}

// Keys outside the pattern may hold anything.
TEST(BlockSparseAttention, ReadsNoKeyOutsideThePattern) {
  const PatternCase c{shape_of(1, 60, 60, 1, 1, 8), 1, 16, 0.0, false, 4, 0, {20, 40}};
  for (const char* name : {"reference", "cpu"}) {
    Problem before(c.shape, DType::f32, DType::f32, 11, pattern_of(c)), after = before;
    before.forward(name);
    after.o = nan_tensor(after.o.shape(), DType::f32);
    for (std::int64_t j = 0; j < 20; ++j) after.v.data<float>()[j * 8 + 1] = 1e30f;
    after.forward(name);
    EXPECT_TRUE(same_bits(before.o.rows(20, 60), after.o.rows(20, 60))) << name;
  }
}

TEST(BlockSparseAttention, CountsThePairsThatItReads) {
  for (const PatternCase& c : sweep()) {
    const AttentionPattern pattern = pattern_of(c);
    std::int64_t visited = 0, allowed = 0;
    PatternCase everything = c;
    everything.query_block = everything.window = everything.sinks = 0;
    for (std::int64_t b = 0; b < c.shape.batch; ++b)
      for (std::int64_t h = 0; h < c.shape.query_heads; ++h) {
        const auto count = [&](const PatternCase& of) {
          const std::vector<std::int64_t> slots = slots_of_pairs(of, pattern, b, h);
          return std::int64_t(slots.size()) - std::count(slots.begin(), slots.end(), kMasked);
        };
        visited += count(c), allowed += count(everything);
      }
    EXPECT_EQ(visited_pairs(c.shape, pattern), visited) << describe(c);
    EXPECT_EQ(allowed_pairs(c.shape, pattern), allowed) << describe(c);
    const Problem x(c.shape, DType::f32, DType::f32, 11, pattern);
    const Work work = AttentionForward::work({x.shape, x.q, x.k, x.v, x.o, x.lse, x.pattern});
    EXPECT_EQ(work.flops, 4 * c.shape.head_dim * visited) << describe(c);
    EXPECT_EQ(work.dense_flops, 4 * c.shape.head_dim * allowed) << describe(c);
  }
}

// Runs the forward after `spoil` and returns the message it fails with.
template <class Spoil>
std::string failure_after(const Spoil& spoil) {
  const PatternCase c{shape_of(1, 40, 40, 1, 1, 8), 1, 16, 1.0, true, 0, 0, {15, 25}};
  Problem problem(c.shape, DType::f32, DType::f32, 11, pattern_of(c));
  spoil(&problem.pattern);
  try {
    problem.forward("cpu");
  } catch (const InternalError& error) {
    return error.what();
  }
  return "no error";
}

TEST(BlockSparseAttention, RefusesPatternsThatDoNotFit) {
  const auto set = [](Tensor AttentionPattern::*tensor, std::int64_t at, std::int32_t value) {
    return [=](AttentionPattern* p) { (p->*tensor).data<std::int32_t>()[at] = value; };
  };
  const auto has = [](const std::string& message, const char* part) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  const auto list = [](Tensor BlockLists::*tensor, std::int64_t at, std::int32_t value) {
    return [=](AttentionPattern* p) { (p->lists.*tensor).data<std::int32_t>()[at] = value; };
  };
  has(failure_after(list(&BlockLists::indices_BHNJ, 1, 3)), "lists row 0 slot 1: 3 after 0");
  has(failure_after(list(&BlockLists::indices_BHNJ, 1, 0)), "lists row 0 slot 1: 0 after 0");
  has(failure_after(list(&BlockLists::counts_BHN, 2, 9)), "lists row 2: count 9 of capacity 4");
  has(failure_after(list(&BlockLists::transposed_counts_BHM, 0, 1)), "transposed lists");
  has(failure_after(set(&AttentionPattern::document_begin_T, 17, 14)), "position 17");
  has(failure_after([](AttentionPattern* p) { p->lists = {}; }), "bias_BHNJ without block lists");
  has(failure_after([](AttentionPattern* p) { p->window = -1; }), "window -1");
}

}  // namespace
}  // namespace filigree
