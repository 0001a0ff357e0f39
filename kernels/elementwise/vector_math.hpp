// Elementary functions that compilers turn into vector code.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "kernels/elementwise/loops.hpp"

namespace filigree {

// exp(x) in f32, within 2 units in the last place, subnormal results included. exp(-inf) = 0, NaN
// stays NaN.
//
// x = k ln 2 + r with |r| <= ln 2 / 2, and exp(x) = 2^k exp(r). ln 2 is subtracted in two parts so
// that r is exact to f32 (Cody and Waite 1980); exp(r) is the polynomial of Moshier's Cephes expf.
// Adding 1.5 * 2^23 rounds x / ln 2 to the nearest integer and leaves it in the low bits. 2^k is
// applied in two factors, since k reaches from -150 to 129.
inline float vector_exp(float x) {
  constexpr float kMagic = 0x1.8p23f;
  x = x < -104.0f ? -104.0f : x;
  x = x > 89.0f ? 89.0f : x;
  const float shifted = std::fma(x, 1.44269504088896341f, kMagic);
  const float k = shifted - kMagic;
  const float r = std::fma(k, 2.12194440e-4f, std::fma(k, -0.693359375f, x));
  float p = 1.9875691500e-4f;
  p = std::fma(p, r, 1.3981999507e-3f);
  p = std::fma(p, r, 8.3334519073e-3f);
  p = std::fma(p, r, 4.1665795894e-2f);
  p = std::fma(p, r, 1.6666665459e-1f);
  p = std::fma(p, r, 5.0000001201e-1f);
  p = std::fma(p, r * r, r) + 1.0f;
  const auto exponent = std::bit_cast<std::int32_t>(shifted) - std::bit_cast<std::int32_t>(kMagic);
  const std::int32_t half = exponent >> 1;
  const auto power_of_two = [](std::int32_t e) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(e + 127) << 23);
  };
  return p * power_of_two(half) * power_of_two(exponent - half);
}

// f64 is the type of proofs, not of speed.
inline double vector_exp(double x) { return std::exp(x); }

// vector_loop where vector_exp(A) is vector code, scalar_loop where it is libm's.
template <class A, class Body>
inline void exp_loop(std::int64_t begin, std::int64_t end, const Body& body) {
  if constexpr (sizeof(A) == sizeof(float))
    vector_loop(begin, end, body);
  else
    scalar_loop(begin, end, body);
}

}  // namespace filigree
