// Timing of a call that repeats.
#pragma once

#include <algorithm>
#include <chrono>

#include "runtime/core/execution.hpp"

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

// The same for a call that enqueues work on the context's device: so many in a row that waiting for
// the last one does not count.
template <class Call>
double fastest_call(double budget, const ExecutionContext& context, const Call& call) {
  if (!context.stream) return fastest_call(budget, call);
  const auto repeat = [&](int times) {
    for (int i = 0; i < times; ++i) call();
    context.stream->synchronize();
  };
  repeat(1);
  const double once = seconds_of([&] { repeat(1); });
  const int times = std::clamp(static_cast<int>(2e-3 / once), 1, 1000);
  return fastest_call(budget, [&] { repeat(times); }) / times;
}

}  // namespace filigree
