// Timing of a call that repeats.
#pragma once

#include <algorithm>
#include <chrono>

namespace filigree {

template <class Call>
double seconds_of(const Call& call) {
  const auto begin = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// Seconds of the fastest of the calls that fit into `budget` seconds, at least three, after one
// that warms up. The fastest is the one that other programs disturbed least.
template <class Call>
double fastest_call(double budget, const Call& call) {
  call();
  double fastest = seconds_of(call), total = fastest;
  for (int calls = 1; calls < 3 || total < budget; ++calls) {
    const double seconds = seconds_of(call);
    fastest = std::min(fastest, seconds);
    total += seconds;
  }
  return fastest;
}

}  // namespace filigree
