#include "data_pipeline/sampler.hpp"

#include <bit>

#include "runtime/core/error.hpp"
#include "runtime/core/random.hpp"

namespace filigree {
namespace {

// A Feistel network (Luby and Rackoff, "How to construct pseudorandom permutations", 1988) is a
// permutation of [0, 4^half_bits) whatever its round function is. Eight rounds: four would do for
// large halves, but small datasets have halves of a few bits only.
constexpr std::uint64_t kRounds = 8;

std::uint64_t feistel(const Philox& philox, std::uint64_t value, int half_bits) {
  const std::uint64_t mask = (std::uint64_t{1} << half_bits) - 1;
  std::uint64_t left = value >> half_bits, right = value & mask;
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    const std::uint64_t mixed = left ^ (philox.bits(round << 32 | right)[0] & mask);
    left = right;
    right = mixed;
  }
  return left << half_bits | right;
}

}  // namespace

Sampler::Sampler(std::int64_t windows, std::uint64_t seed) : windows_(windows), seed_(seed) {
  FILIGREE_CHECK(windows >= 1 && windows < std::int64_t{1} << 62, "windows: ", windows);
}

std::int64_t Sampler::window(std::int64_t sample) const {
  FILIGREE_CHECK(sample >= 0, "sample: ", sample);
  const std::int64_t epoch = sample / windows_;
  const Philox philox(seed_, RandomPurpose::data_order, static_cast<std::uint64_t>(epoch));
  const auto windows = static_cast<std::uint64_t>(windows_);
  const int half_bits = (std::bit_width(windows - 1) + 1) / 2;
  auto value = static_cast<std::uint64_t>(sample % windows_);
  // Cycle walking (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002): follow the
  // permutation of the larger domain until it comes back into range. The domain is less than four
  // times as large, so four steps on average are the most.
  do {
    value = feistel(philox, value, half_bits);
  } while (value >= windows);
  return static_cast<std::int64_t>(value);
}

std::int64_t window_count(std::int64_t tokens, std::int64_t length) {
  FILIGREE_CHECK(length >= 1, "window length: ", length);
  return tokens > length ? (tokens - 1) / length : 0;
}

}  // namespace filigree
