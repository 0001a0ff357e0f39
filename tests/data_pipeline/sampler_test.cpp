#include "data_pipeline/sampler.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <vector>

#include "runtime/core/error.hpp"

namespace filigree {
namespace {

std::vector<std::int64_t> epoch_of(const Sampler& sampler, std::int64_t epoch) {
  std::vector<std::int64_t> order;
  for (std::int64_t i = 0; i < sampler.windows(); ++i) {
    order.push_back(sampler.window(epoch * sampler.windows() + i));
  }
  return order;
}

TEST(SamplerTest, EveryEpochVisitsEveryWindowOnce) {
  for (const std::int64_t windows : {1, 2, 3, 4, 5, 7, 16, 17, 63, 64, 65, 1000, 4097}) {
    const Sampler sampler(windows, 42);
    for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
      std::vector<std::int64_t> order = epoch_of(sampler, epoch);
      std::sort(order.begin(), order.end());
      std::vector<std::int64_t> expected(static_cast<std::size_t>(windows));
      std::iota(expected.begin(), expected.end(), 0);
      ASSERT_EQ(order, expected) << windows << " windows, epoch " << epoch;
    }
  }
}

TEST(SamplerTest, EpochsAndSeedsHaveOrdersOfTheirOwn) {
  const Sampler sampler(1000, 1), other(1000, 2);
  EXPECT_NE(epoch_of(sampler, 0), epoch_of(sampler, 1));
  EXPECT_NE(epoch_of(sampler, 0), epoch_of(other, 0));
  EXPECT_EQ(epoch_of(sampler, 5), epoch_of(Sampler(1000, 1), 5));
}

// The order of data is part of what a checkpoint means: it must never change. The values were
// computed with a second implementation, written in Python from the description in sampler.hpp.
TEST(SamplerTest, TheOrderIsPinned) {
  const Sampler ten(10, 0), large(1'000'003, 0x123456789ABCDEFu);
  EXPECT_EQ(epoch_of(ten, 0), (std::vector<std::int64_t>{6, 9, 3, 5, 2, 4, 7, 1, 0, 8}));
  EXPECT_EQ(epoch_of(ten, 1), (std::vector<std::int64_t>{7, 0, 2, 6, 5, 1, 9, 4, 8, 3}));
  EXPECT_EQ(large.window(0), 693873);
  EXPECT_EQ(large.window(1), 673201);
  EXPECT_EQ(large.window(123'456'789'012), 605420);
}

// Positions of windows must look independent of their number. Over 2,000 epochs of 12 windows, each
// of the 144 (position, window) cells has mean 166.7; chi-square has 121 degrees of freedom,
// its 99.99 % quantile is 184.
TEST(SamplerTest, EveryWindowIsEquallyLikelyEverywhere) {
  constexpr std::int64_t kWindows = 12, kEpochs = 2000;
  const Sampler sampler(kWindows, 7);
  std::vector<double> counts(kWindows * kWindows);
  for (std::int64_t epoch = 0; epoch < kEpochs; ++epoch) {
    for (std::int64_t i = 0; i < kWindows; ++i) {
      counts[static_cast<std::size_t>(i * kWindows + sampler.window(epoch * kWindows + i))] += 1;
    }
  }
  const double mean = double(kEpochs) / kWindows;
  double chi_square = 0;
  for (const double count : counts) chi_square += (count - mean) * (count - mean) / mean;
  EXPECT_LT(chi_square, 184.0);
  EXPECT_GT(chi_square, 74.0) << "more even than chance";  // the 0.02 % quantile
}

TEST(SamplerTest, NeighboursAreScattered) {
  const Sampler sampler(10'000, 3);
  int close = 0;
  for (std::int64_t i = 0; i + 1 < 10'000; ++i) {
    if (std::abs(sampler.window(i) - sampler.window(i + 1)) < 100) ++close;
  }
  // Two random windows are that close with probability 0.0198: 198 +- 14.
  EXPECT_GT(close, 130);
  EXPECT_LT(close, 270);
}

TEST(SamplerTest, HugeDatasetsStayInRange) {
  const std::int64_t windows = (std::int64_t{1} << 40) + 12345;
  const Sampler sampler(windows, 9);
  std::set<std::int64_t> seen;
  for (std::int64_t i = 0; i < 2000; ++i) {
    const std::int64_t window = sampler.window(windows * 3 + i);
    ASSERT_GE(window, 0);
    ASSERT_LT(window, windows);
    seen.insert(window);
  }
  EXPECT_EQ(seen.size(), 2000u);
}

TEST(SamplerTest, MisuseIsCaught) {
  EXPECT_THROW(Sampler(0, 1), InternalError);
  EXPECT_THROW(Sampler(4, 1).window(-1), InternalError);
}

TEST(SamplerTest, WindowsShareTheirBorderToken) {
  EXPECT_EQ(window_count(0, 4), 0);
  EXPECT_EQ(window_count(4, 4), 0);  // no token left as the last target
  EXPECT_EQ(window_count(5, 4), 1);
  EXPECT_EQ(window_count(8, 4), 1);
  EXPECT_EQ(window_count(9, 4), 2);
  EXPECT_EQ(window_count(100, 1), 99);
}

}  // namespace
}  // namespace filigree
