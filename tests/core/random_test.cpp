#include "runtime/core/random.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace filigree {
namespace {

using Counter = std::array<std::uint32_t, 4>;

// The known-answer vectors that come with the Random123 library of the paper's authors
// (kat_vectors, philox4x32 10).
TEST(Philox, GivesTheKnownAnswers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (Counter{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}));
  EXPECT_EQ(philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (Counter{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}));
  EXPECT_EQ(
      philox4x32({0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}, {0xa4093822u, 0x299f31d0u}),
      (Counter{0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u}));
}

// Stored runs depend on these: a change of how keys are built would silently change every
// initialisation.
TEST(Philox, KeysSeparateSeedsPurposesAndStreams) {
  std::set<Counter> seen;
  int draws = 0;
  for (const std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 32})
    for (const RandomPurpose purpose : {RandomPurpose::initialisation, RandomPurpose::dropout})
      for (const std::uint64_t stream :
           {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 32})
        for (const std::uint64_t index :
             {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 32}) {
          seen.insert(Philox(seed, purpose, stream).bits(index));
          ++draws;
        }
  EXPECT_EQ(static_cast<int>(seen.size()), draws);
}

TEST(Philox, UniformCoversTheUnitInterval) {
  const Philox philox(1, RandomPurpose::test, 0);
  constexpr int kDraws = 100000;
  double sum = 0;
  std::array<int, 10> bins{};
  for (int i = 0; i < kDraws; ++i) {
    const double u = philox.uniform(static_cast<std::uint64_t>(i));
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
    ++bins[static_cast<std::size_t>(u * 10)];
  }
  // Five standard deviations: sqrt(1/12 / draws) of the mean, sqrt(0.1 * 0.9 * draws) of a bin.
  EXPECT_NEAR(sum / kDraws, 0.5, 5 * std::sqrt(1.0 / 12 / kDraws));
  for (const int count : bins) EXPECT_NEAR(count, kDraws / 10, 5 * std::sqrt(0.09 * kDraws));
}

TEST(Philox, NormalHasTheMomentsAndTailsOfANormal) {
  const Philox philox(2, RandomPurpose::test, 7);
  constexpr int kDraws = 100000;
  double mean = 0, square = 0, neighbours = 0, previous = 0;
  int beyond_two = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double z = philox.normal(static_cast<std::uint64_t>(i));
    ASSERT_TRUE(std::isfinite(z));
    mean += z / kDraws;
    square += z * z / kDraws;
    neighbours += z * previous / kDraws;
    previous = z;
    beyond_two += std::abs(z) > 2;
  }
  EXPECT_NEAR(mean, 0, 5 / std::sqrt(kDraws));
  EXPECT_NEAR(square, 1, 5 * std::sqrt(2.0 / kDraws));
  EXPECT_NEAR(neighbours, 0, 5 / std::sqrt(kDraws));
  EXPECT_NEAR(beyond_two / double{kDraws}, 0.0455, 5 * std::sqrt(0.0455 / kDraws));
}

TEST(HashText, IsXxh3AndSeparatesNames) {
  EXPECT_EQ(hash_text(""), 0x2d06800538d394c2u);  // XXH3_64bits of no bytes
  EXPECT_NE(hash_text("layers.0.attention.q"), hash_text("layers.1.attention.q"));
}

}  // namespace
}  // namespace filigree
