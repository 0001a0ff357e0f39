#include "launch/commands/bench_attention.hpp"

#include <gtest/gtest.h>

#include "runtime/core/error.hpp"

namespace filigree {
namespace {

TEST(BenchAttention, ReportsTheDensityThatItReads) {
  AttentionBenchSettings settings;
  settings.heads = 2, settings.kv_heads = 1, settings.head_dim = 8;
  settings.sequences = {100};
  settings.densities = {100, 0};
  settings.query_blocks = {1}, settings.key_blocks = {16};
  ExecutionContext context;
  const std::vector<AttentionMeasurement> rows = measure_attention(settings, context);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].density, 100.0);
  // First, previous and own block: everything to token 47, from there 32 keys and those of the own
  // block up to the token itself.
  std::int64_t pairs = 0;
  for (std::int64_t i = 0; i < 100; ++i) pairs += i < 48 ? i + 1 : 32 + i % 16 + 1;
  EXPECT_DOUBLE_EQ(rows[1].density, 100.0 * double(pairs) / (100.0 * 101 / 2));
  for (const AttentionMeasurement& row : rows)
    for (const AttentionTiming* timing : {&row.forward, &row.backward}) {
      const double seconds_per_pair = timing->sparse_seconds / row.density;
      EXPECT_NEAR(timing->efficiency(), timing->dense_seconds / 100.0 / seconds_per_pair,
                  1e-9 * timing->efficiency());
    }
}

TEST(BenchAttention, TakesDenseTimesOfTheImplementationThatIsNamed) {
  AttentionBenchSettings settings;
  settings.dense = "reference";
  settings.heads = 2, settings.kv_heads = 1, settings.head_dim = 64;
  settings.sequences = {256};
  settings.densities = {100};
  settings.query_blocks = {64}, settings.key_blocks = {64};
  ExecutionContext context;
  const AttentionMeasurement row = measure_attention(settings, context).at(0);
  // Plain loops in scalars beside vector code on the same pairs.
  EXPECT_GT(row.forward.dense_seconds, 1.5 * row.forward.sparse_seconds);
  EXPECT_GT(row.backward.dense_seconds, 1.5 * row.backward.sparse_seconds);
  EXPECT_TRUE(context.forced_kernels.empty());
}

std::string failure_of(const std::vector<std::string>& arguments) {
  try {
    bench_attention_command().run(arguments);
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

TEST(BenchAttention, NamesWhatItCannotMeasure) {
  const auto has = [](const std::string& message, const char* part) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  has(failure_of({"--density", "10,abc"}), "'abc' is not a number from 0 to 100");
  has(failure_of({"--density", "200"}), "'200' is not a number from 0 to 100");
  has(failure_of({"--query-block", "1.5"}), "'1.5' is not a whole number");
  has(failure_of({"--sequence", ""}), "--sequence");
  has(failure_of({"--dense", "cudn", "--sequence", "64"}),
      "--dense cudn: attention_forward has no such implementation on the CPU; there is: reference, "
      "portable, cpu");
  has(failure_of({"--heads", "3", "--kv-heads", "2"}), "--kv-heads 2: does not divide --heads 3");
}

}  // namespace
}  // namespace filigree
