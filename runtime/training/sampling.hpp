// Picks the next token from logits.
#pragma once

#include <cstdint>
#include <span>

namespace filigree {

struct SamplingOptions {
  bool greedy = false;       // the most probable token, the rest is ignored
  double temperature = 1.0;  // logits are divided by it
  std::int64_t top_k = 0;    // keep the k most probable tokens; 0: all
  double top_p = 1.0;        // of these, keep the fewest whose probabilities reach p together
  std::uint64_t seed = 1234;
};

// Throws UserError naming the option that is out of range.
void check_sampling(const SamplingOptions& options);

// The token at `position` of a text. Equal logits are ordered by token id. The draw depends on
// (seed, position) and the logits only.
std::int32_t sample_token(std::span<const float> logits_V, const SamplingOptions& options,
                          std::int64_t position);

}  // namespace filigree
