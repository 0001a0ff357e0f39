// The forward in bf16 at the widths and in the patterns that tensor cores take in large tiles.
#include "tests/kernels/attention_patterns.hpp"

namespace filigree {
namespace {

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
      // Lists with blocks of whole tiles, and of pieces of 64, 32, 16 and 8 keys.
      {narrow, 128, 128, 0.5, true},
      {wide, 64, 64, 0.4, true},
      {narrow, 64, 32, 0.3, true, 20, 5},
      {wide, 128, 16, 0.2, true},
      {narrow, 70, 24, 0.3, true, 9, 40},
      {wide, 40, 80, 0.3, false, 13, 3, {1, 30, 70, 49}},
      {shape_of(2, 100, 230, 2, 1, 64, 130), 64, 64, 0.3, true, 40, 6, {137, 60, 33}},
      {shape_of(1, 150, 170, 2, 1, 64, 0, false), 64, 16, 0.2, true, 9, 4},
      // Windows, sinks and documents without lists.
      {narrow, 0, 0, 0, false, 30, 7},
      {wide, 0, 0, 0, false, 0, 0, {64, 65, 21}},
  };
}

Problem forwarded(const PatternCase& c, DType dtype, const char* name, int run,
                  const AttentionPattern& pattern, std::uint64_t seed = 11) {
  Problem x(c.shape, dtype, DType::bf16, seed, pattern);
  x.forward(name, run);
  return x;
}

// As plain_errors, of o and lse.
std::vector<PlainError> forward_errors(const PatternCase& c, const AttentionPattern& pattern) {
  std::vector<PlainError> errors(2);
  for (const std::uint64_t seed : {11, 12, 13, 14}) {
    const auto plain = forwarded(c, DType::bf16, "reference", 1, pattern, seed).outputs();
    const auto truth = forwarded(c, DType::f64, "reference", 1, pattern, seed).outputs();
    for (std::size_t i = 0; i < errors.size(); ++i) {
      const Tensor &x = plain[i].second, &y = truth[i].second;
      errors[i].largest = std::max(errors[i].largest, largest_difference(x, y));
      errors[i].root_mean_square =
          std::max(errors[i].root_mean_square, root_mean_square_difference(x, y));
    }
  }
  return errors;
}

TEST(AttentionForwardPatterns, AreAsExactAsPlainLoopsWithTheSameBitsInEveryRun) {
  for (const PatternCase& c : cases()) {
    const AttentionPattern pattern = pattern_of(c);
    const auto truth = forwarded(c, DType::f64, "reference", 1, pattern).outputs();
    const auto plain = forward_errors(c, pattern);
    for (const char* name : fast_implementations(c.shape, DType::bf16, pattern)) {
      const auto got = forwarded(c, DType::bf16, name, 1, pattern).outputs();
      const auto again = forwarded(c, DType::bf16, name, 2, pattern).outputs();
      for (std::size_t i = 0; i < plain.size(); ++i) {
        const std::string what = str(name, ": ", got[i].first, ", ", describe(c));
        expect_within(got[i].second, truth[i].second, plain[i], what);
        EXPECT_TRUE(same_bits(got[i].second, again[i].second)) << what;
      }
    }
  }
}

}  // namespace
}  // namespace filigree
