// The order of training samples: a pure function of (seed, sample index), so it does not depend on
// the number of ranks and can be taken up at any sample.
#pragma once

#include <cstdint>

namespace filigree {

// Sample i of a run is window window(i) of the dataset: each epoch visits every window once, in its
// own pseudo-random order (a Feistel permutation keyed by seed and epoch, cycle-walked into range).
// No index is stored.
class Sampler {
 public:
  // windows >= 1
  Sampler(std::int64_t windows, std::uint64_t seed);
  std::int64_t window(std::int64_t sample) const;
  std::int64_t windows() const { return windows_; }

 private:
  std::int64_t windows_;
  std::uint64_t seed_;
};

// Non-overlapping windows of `length` inputs, each with the next token as its last target.
std::int64_t window_count(std::int64_t tokens, std::int64_t length);

}  // namespace filigree
