// Counter-based random numbers: a value depends on its key and its index only, never on call order,
// thread or layout.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "runtime/core/philox.hpp"

namespace filigree {

// What a stream of random numbers is for. Values are stored in checkpoints' meaning: never
// renumber.
enum class RandomPurpose : std::uint32_t {
  initialisation = 1,
  dropout = 2,
  data_order = 3,
  sampling = 4,
  test = 5
};

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key);

// The stream of (seed, purpose, stream): `stream` is a step, a layer, a parameter's name hash, ...
// Element i of the stream is the same on every rank and device.
class Philox {
 public:
  Philox(std::uint64_t seed, RandomPurpose purpose, std::uint64_t stream);

  std::array<std::uint32_t, 4> bits(std::uint64_t index) const;
  double uniform(std::uint64_t index) const;  // [0, 1), 53 random bits
  double normal(std::uint64_t index) const;  // mean 0, variance 1 (Box-Muller, one value per index)

  // For device code, which draws the same numbers through philox.hpp.
  philox::Key key() const { return {key_[0], key_[1], stream_}; }

 private:
  std::array<std::uint32_t, 2> key_;
  std::uint64_t stream_;
};

// A stable 64-bit hash of a text (XXH3), to key a stream by a name.
std::uint64_t hash_text(std::string_view text);

}  // namespace filigree
