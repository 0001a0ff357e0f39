// Probabilities as integers, for the host and for device code: sums of them are exact and do not
// depend on their order, so that every device picks the same token. Correctly rounded operations
// and explicit fused multiply-adds only, as in runtime/core/philox.hpp.
#pragma once

#include <cmath>
#include <cstdint>

#include "runtime/core/host_device.hpp"

namespace filigree::sampling {

using Mass = unsigned long long;  // what device code adds up

constexpr int kWeightBits = 40;
constexpr std::int64_t kMostTokens = std::int64_t{1} << 23;  // whose weights fit a Mass

// 2^40 exp(x), rounded down, for x <= 0. x = k ln 2 + r with |r| <= ln(2) / 2, and the Taylor
// series of exp(r), whose first term left out is below 2^-57.
FILIGREE_HOST_DEVICE inline Mass weight(double x) {
  constexpr double kLog2E = 1.44269504088896338700;
  constexpr double kLn2High = 6.93147180369123816490e-01, kLn2Low = 1.90821492927058770002e-10;
  if (!(x > -28.0)) return 0;  // 2^40 exp(-28) < 1
  const double k = std::floor(std::fma(x, kLog2E, 0.5));
  const double r = std::fma(-k, kLn2Low, std::fma(-k, kLn2High, x));
  double sum = 1.0 / 6227020800;
  sum = std::fma(sum, r, 1.0 / 479001600);
  sum = std::fma(sum, r, 1.0 / 39916800);
  sum = std::fma(sum, r, 1.0 / 3628800);
  sum = std::fma(sum, r, 1.0 / 362880);
  sum = std::fma(sum, r, 1.0 / 40320);
  sum = std::fma(sum, r, 1.0 / 5040);
  sum = std::fma(sum, r, 1.0 / 720);
  sum = std::fma(sum, r, 1.0 / 120);
  sum = std::fma(sum, r, 1.0 / 24);
  sum = std::fma(sum, r, 1.0 / 6);
  sum = std::fma(sum, r, 0.5);
  sum = std::fma(sum, r, 1.0);
  sum = std::fma(sum, r, 1.0);
  return static_cast<Mass>(std::ldexp(sum, kWeightBits + static_cast<int>(k)));
}

// Of the token with this logit, beside the largest one.
FILIGREE_HOST_DEVICE inline Mass weight(double logit, double largest, double temperature) {
  return weight((logit - largest) / temperature);
}

// The least mass that the nucleus of probability p holds, 1 at least.
FILIGREE_HOST_DEVICE inline Mass nucleus(double p, Mass all) {
  const double wanted = std::ceil(p * static_cast<double>(all));
  if (!(wanted < static_cast<double>(all))) return all;
  return wanted < 1.0 ? 1 : static_cast<Mass>(wanted);
}

// Where in [0, mass) the uniform number u in [0, 1) points.
FILIGREE_HOST_DEVICE inline Mass drawn(double u, Mass mass) {
  const auto place = static_cast<Mass>(u * static_cast<double>(mass));
  return place < mass ? place : mass - 1;
}

}  // namespace filigree::sampling
