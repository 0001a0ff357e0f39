// The next token of a text, picked from its logits.
#pragma once

#include "kernels/dispatch.hpp"

namespace filigree {

struct SamplingOptions {
  bool greedy = false;       // the most probable token, the rest is ignored
  double temperature = 1.0;  // logits are divided by it
  std::int64_t top_k = 0;    // keep the k most probable tokens; 0: all
  double top_p = 1.0;        // of these, keep the fewest whose probabilities reach p together
  std::uint64_t seed = 1234;
};

// With the tokens in descending order of logits, equal ones in ascending order of ids:
//   kept = the first top_k;  weight w = exp((logit - largest) / temperature), see weights.hpp
//   nucleus = the fewest of the kept, from the first, with sum w >= top_p * sum of the kept w
//             (Holtzman et al. 2020)
//   token[0] = the first of the nucleus whose running sum of w exceeds u * sum of the nucleus' w
// where u is the uniform number of (seed, position). Every implementation picks the same token.
// -1 where the largest logit is not finite or one is NaN. logits: f32 or f64 [V], V >= 1; token:
// i32 [1].
struct SampleToken {
  static constexpr std::string_view name = "sample_token";
  struct Arguments {
    Tensor logits_V;
    SamplingOptions options;
    std::int64_t position = 0;  // of the token in its text
    Tensor token;
  };
  static Work work(const Arguments&);
  static std::optional<std::string> reject(const Arguments&, const ExecutionContext&);
  static void reference(const Arguments&, ExecutionContext&);
  static void cuda(const Arguments&, ExecutionContext&);
  static double uniform(const Arguments&);  // u, in [0, 1)
};

}  // namespace filigree
