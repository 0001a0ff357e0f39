// The emulator's own source of chance: one stream, drawn from in the order of execution, so that a
// seed repeats a run exactly.
#pragma once

#include <cstdint>

namespace simt {

class Random {
 public:
  explicit Random(std::uint64_t seed = 0) : state_(seed * 0x9e3779b97f4a7c15ull + 1) {}

  // SplitMix64 (Steele, Lea, Flood 2014).
  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }

  // Uniform in [0, n); n > 0 and below 2^32.
  std::uint32_t below(std::uint32_t n) {
    return static_cast<std::uint32_t>(((next() >> 32) * n) >> 32);
  }

 private:
  std::uint64_t state_;
};

}  // namespace simt
