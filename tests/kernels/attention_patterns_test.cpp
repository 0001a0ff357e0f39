// Forward and backward in bf16 at the widths and in the patterns that tensor cores take in large
// tiles.
#include "tests/kernels/attention_patterns.hpp"
#include "tests/harness/bits.hpp"

namespace filigree {
namespace {

using testing::same_bits;

std::vector<PatternCase> cases() {
  const AttentionShape narrow = shape_of(1, 200, 200, 2, 1, 64),
                       wide = shape_of(1, 150, 150, 2, 1, 128);
  return {
      // Dense: several tiles, of one warpgroup and of two; offsets; heads that fill no panel.
      {shape_of(1, 300, 300, 2, 1, 64)},
      {shape_of(2, 60, 60, 2, 2, 128)},
      {shape_of(1, 70, 330, 2, 1, 96, 260)},
      {shape_of(1, 130, 170, 2, 2, 40, 0, false)},
      {shape_of(1, 100, 40, 1, 1, 64, -30)},
      {shape_of(0, 100, 100, 2, 1, 64)},
      // Lists with blocks of whole tiles, and of pieces of 64, 32, 16 and 8 keys.
      {narrow, 128, 128, 0.5, true},
      {wide, 64, 64, 0.4, true},
      {narrow, 64, 32, 0.3, true, 20, 5},
      {wide, 128, 16, 0.2, true},
      {narrow, 70, 24, 0.3, true, 9, 40},
      // Groups that pieces do not divide, and that begin before the first query.
      {shape_of(1, 130, 200, 4, 2, 64, 70), 70, 64, 0.4, true},
      {shape_of(1, 90, 160, 2, 1, 128, 70), 40, 128, 0.4, true, 30, 2},
      {wide, 40, 80, 0.3, false, 13, 3, {1, 30, 70, 49}},
      {shape_of(2, 100, 230, 2, 1, 64, 130), 64, 64, 0.3, true, 40, 6, {137, 60, 33}},
      {shape_of(1, 150, 170, 2, 1, 64, 0, false), 64, 16, 0.2, true, 9, 4},
      // Windows, sinks and documents without lists.
      {narrow, 0, 0, 0, false, 30, 7},
      {wide, 0, 0, 0, false, 0, 0, {64, 65, 21}},
  };
}

TEST(AttentionPatterns, AreAsExactAsPlainLoopsWithTheSameBitsInEveryRun) {
  for (const PatternCase& c : cases()) {
    const AttentionPattern pattern = pattern_of(c);
    const auto solution = [&](DType dtype, const char* name, int run) {
      return solved(c.shape, dtype, DType::bf16, name, run, 11, pattern).outputs();
    };
    const auto truth = solution(DType::f64, "reference", 1);
    const auto plain = plain_errors(c.shape, DType::bf16, pattern, 3);
    for (const char* name : fast_implementations(c.shape, DType::bf16, pattern)) {
      const auto got = solution(DType::bf16, name, 1), again = solution(DType::bf16, name, 2);
      for (std::size_t i = 0; i < got.size(); ++i) {
        const std::string what = str(name, ": ", got[i].first, ", ", describe(c));
        expect_within(got[i].second, truth[i].second, plain[i], what);
        EXPECT_TRUE(same_bits(got[i].second, again[i].second)) << what;
      }
    }
  }
}

// In the emulator each run has another order of warps, copies and products.
TEST(AttentionPatterns, HaveTheSameBitsInManyRuns) {
  const PatternCase c{shape_of(1, 130, 130, 2, 1, 128), 64, 64, 0.5, true, 20, 3, {50, 80}};
  const AttentionPattern pattern = pattern_of(c);
  for (const char* name : fast_implementations(c.shape, DType::bf16, pattern)) {
    const auto solution = [&](int run) {
      return solved(c.shape, DType::bf16, DType::bf16, name, run, 11, pattern).outputs();
    };
    const auto first = solution(1);
    for (int run = 2; run < 8; ++run) {
      const auto again = solution(run);
      for (std::size_t i = 0; i < first.size(); ++i)
        EXPECT_TRUE(same_bits(first[i].second, again[i].second))
            << name << ": " << first[i].first << " of run " << run;
    }
  }
}

}  // namespace
}  // namespace filigree
