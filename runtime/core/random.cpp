#include "runtime/core/random.hpp"

#include <xxhash.h>

#include <cmath>
#include <numbers>

namespace filigree {

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key) {
  constexpr std::uint32_t kMultiplier0 = 0xD2511F53u, kMultiplier1 = 0xCD9E8D57u;
  constexpr std::uint32_t kWeyl0 = 0x9E3779B9u, kWeyl1 = 0xBB67AE85u;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{kMultiplier0} * counter[0];
    const std::uint64_t product1 = std::uint64_t{kMultiplier1} * counter[2];
    counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<std::uint32_t>(product1),
               static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<std::uint32_t>(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

Philox::Philox(std::uint64_t seed, RandomPurpose purpose, std::uint64_t stream)
    : key_{static_cast<std::uint32_t>(seed) ^ (static_cast<std::uint32_t>(purpose) * 0x9E3779B9u),
           static_cast<std::uint32_t>(seed >> 32) ^ static_cast<std::uint32_t>(purpose)},
      stream_(stream) {}

std::array<std::uint32_t, 4> Philox::bits(std::uint64_t index) const {
  return philox4x32(
      {static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32),
       static_cast<std::uint32_t>(stream_), static_cast<std::uint32_t>(stream_ >> 32)},
      key_);
}

namespace {
// 53 bits of two words as a double in [0, 1).
double unit_interval(std::uint32_t high, std::uint32_t low) {
  const std::uint64_t word = (std::uint64_t{high} << 32 | low) >> 11;
  return static_cast<double>(word) * 0x1.0p-53;
}
}  // namespace

double Philox::uniform(std::uint64_t index) const {
  const auto words = bits(index);
  return unit_interval(words[0], words[1]);
}

double Philox::normal(std::uint64_t index) const {
  const auto words = bits(index);
  const double radius = std::sqrt(-2.0 * std::log(1.0 - unit_interval(words[0], words[1])));
  return radius * std::cos(2.0 * std::numbers::pi * unit_interval(words[2], words[3]));
}

std::uint64_t hash_text(std::string_view text) { return XXH3_64bits(text.data(), text.size()); }

}  // namespace filigree
