// Attention at every width that has tiles of its own.
#include "tests/harness/bits.hpp"
#include "tests/kernels/attention_problem.hpp"

namespace filigree {
namespace {

using testing::same_bits;

const AttentionShape kShapes[] = {
    shape_of(1, 40, 42, 2, 1, 16, 2), shape_of(1, 67, 70, 2, 1, 32, 3),
    shape_of(1, 70, 80, 2, 1, 64, 10), shape_of(1, 66, 67, 2, 1, 128, 1)};

TEST(AttentionWidths, AreAsExactAsPlainLoopsWithTheSameBitsInEveryRun) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const AttentionShape& shape : kShapes) {
      const auto truth = solved(shape, DType::f64, dtype, "reference").outputs();
      const auto plain = plain_errors(shape, dtype);
      for (const char* name : fast_implementations(shape, dtype)) {
        const auto got = solved(shape, dtype, dtype, name, 1).outputs();
        const auto again = solved(shape, dtype, dtype, name, 2).outputs();
        for (std::size_t i = 0; i < got.size(); ++i) {
          const std::string what =
              str(name, ": ", got[i].first, " in ", name_of(dtype), ", ", describe(shape));
          expect_within(got[i].second, truth[i].second, plain[i], what);
          EXPECT_TRUE(same_bits(got[i].second, again[i].second)) << what;
        }
      }
    }
  }
}

}  // namespace
}  // namespace filigree
