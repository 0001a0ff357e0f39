// The arithmetic behind random.hpp, for the host and for device code: integers, correctly rounded
// operations and explicit fused multiply-adds only, so that every compiler and device gives the
// same bits. Whoever contracts a product and a sum on its own finds none to contract here.
#pragma once

#include <cmath>
#include <cstdint>

#include "runtime/core/host_device.hpp"

namespace filigree::philox {

struct Words {
  std::uint32_t word[4];
};

// What identifies a stream of random numbers: the key and the upper half of the counter.
struct Key {
  std::uint32_t low, high;
  std::uint64_t stream;
};

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
FILIGREE_HOST_DEVICE inline Words permute(Words counter, std::uint32_t key0, std::uint32_t key1) {
  constexpr std::uint64_t kMultiplier0 = 0xD2511F53u, kMultiplier1 = 0xCD9E8D57u;
  constexpr std::uint32_t kWeyl0 = 0x9E3779B9u, kWeyl1 = 0xBB67AE85u;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = kMultiplier0 * counter.word[0];
    const std::uint64_t product1 = kMultiplier1 * counter.word[2];
    counter = {{static_cast<std::uint32_t>(product1 >> 32) ^ counter.word[1] ^ key0,
                static_cast<std::uint32_t>(product1),
                static_cast<std::uint32_t>(product0 >> 32) ^ counter.word[3] ^ key1,
                static_cast<std::uint32_t>(product0)}};
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
  return counter;
}

FILIGREE_HOST_DEVICE inline Words words_at(const Key& key, std::uint64_t index) {
  return permute(
      {{static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32),
        static_cast<std::uint32_t>(key.stream), static_cast<std::uint32_t>(key.stream >> 32)}},
      key.low, key.high);
}

// 53 bits of two words: the uniform value in [0, 1) is this times 2^-53, exactly.
FILIGREE_HOST_DEVICE inline std::uint64_t unit_bits(std::uint32_t high, std::uint32_t low) {
  return (static_cast<std::uint64_t>(high) << 32 | low) >> 11;
}

FILIGREE_HOST_DEVICE inline double unit_interval(std::uint32_t high, std::uint32_t low) {
  return static_cast<double>(unit_bits(high, low)) * 0x1.0p-53;
}

// ln x for x in [2^-53, 1], to 1 unit in the last place: FreeBSD's e_log.c (Sun Microsystems 1993).
// x = 2^k (1 + f); ln(1 + f) = f - f^2/2 + s (f^2/2 + R(s^2)), s = f / (2 + f).
FILIGREE_HOST_DEVICE inline double logarithm(double x) {
  constexpr double kLn2High = 6.93147180369123816490e-01, kLn2Low = 1.90821492927058770002e-10;
  constexpr double kHalfRoot = 0.70710678118654752440;
  int exponent = 0;
  double mantissa = std::frexp(x, &exponent);  // [1/2, 1)
  if (mantissa < kHalfRoot) {
    mantissa += mantissa;
    --exponent;
  }
  const double f = mantissa - 1.0, k = exponent, half_f = 0.5 * f;
  const double s = f / (2.0 + f), z = s * s, w = z * z;
  const double even = std::fma(w, std::fma(w, 1.531383769920937332e-01, 2.222219843214978396e-01),
                               3.999999999940941908e-01);
  const double odd =
      std::fma(w,
               std::fma(w, std::fma(w, 1.479819860511658591e-01, 1.818357216161805012e-01),
                        2.857142874366239149e-01),
               6.666666666666735130e-01);
  const double remainder = std::fma(z, odd, w * even);
  const double correction = std::fma(s, std::fma(half_f, f, remainder), k * kLn2Low);
  return std::fma(k, kLn2High, f - std::fma(half_f, f, -correction));
}

// cos(2 pi u) for u in [0, 1) that is a multiple of 2^-53, so that the reduction to an eighth of a
// turn is exact; FreeBSD's k_cos.c and k_sin.c (Sun Microsystems 1993) there.
FILIGREE_HOST_DEVICE inline double cosine_of_turns(double u) {
  constexpr double kHalfPi = 1.57079632679489661923;
  const double quarters = 4.0 * u, nearest = std::floor(quarters + 0.5);
  const double a = (quarters - nearest) * kHalfPi, z = a * a;
  const int quadrant = static_cast<int>(nearest) & 3;
  double value;
  if (quadrant % 2 == 0) {
    double p = std::fma(z, -1.13596475577881948265e-11, 2.08757232129817482790e-09);
    p = std::fma(z, p, -2.75573143513906633035e-07);
    p = std::fma(z, p, 2.48015872894767294178e-05);
    p = std::fma(z, p, -1.38888888888741095749e-03);
    p = std::fma(z, p, 4.16666666666666019037e-02);
    const double half = 0.5 * z, main = 1.0 - half;
    value = main + std::fma(z, z * p, (1.0 - main) - half);
  } else {
    double p = std::fma(z, 1.58969099521155010221e-10, -2.50507602534068634195e-08);
    p = std::fma(z, p, 2.75573137070700676789e-06);
    p = std::fma(z, p, -1.98412698298579493134e-04);
    p = std::fma(z, p, 8.33333333332248946124e-03);
    p = std::fma(z, p, -1.66666666666666324348e-01);
    value = std::fma(z * a, p, a);
  }
  return quadrant == 1 || quadrant == 2 ? -value : value;
}

// Mean 0, variance 1 (Box and Muller 1958).
FILIGREE_HOST_DEVICE inline double normal(const Words& words) {
  const double radius =
      std::sqrt(-2.0 * logarithm(1.0 - unit_interval(words.word[0], words.word[1])));
  return radius * cosine_of_turns(unit_interval(words.word[2], words.word[3]));
}

}  // namespace filigree::philox
