#include "runtime/core/random.hpp"

#include <xxhash.h>

namespace filigree {

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key) {
  const philox::Words words =
      philox::permute({{counter[0], counter[1], counter[2], counter[3]}}, key[0], key[1]);
  return {words.word[0], words.word[1], words.word[2], words.word[3]};
}

Philox::Philox(std::uint64_t seed, RandomPurpose purpose, std::uint64_t stream)
    : key_{static_cast<std::uint32_t>(seed) ^ (static_cast<std::uint32_t>(purpose) * 0x9E3779B9u),
           static_cast<std::uint32_t>(seed >> 32) ^ static_cast<std::uint32_t>(purpose)},
      stream_(stream) {}

std::array<std::uint32_t, 4> Philox::bits(std::uint64_t index) const {
  const philox::Words words = philox::words_at(key(), index);
  return {words.word[0], words.word[1], words.word[2], words.word[3]};
}

double Philox::uniform(std::uint64_t index) const {
  const philox::Words words = philox::words_at(key(), index);
  return philox::unit_interval(words.word[0], words.word[1]);
}

double Philox::normal(std::uint64_t index) const {
  return philox::normal(philox::words_at(key(), index));
}

std::uint64_t hash_text(std::string_view text) { return XXH3_64bits(text.data(), text.size()); }

}  // namespace filigree
