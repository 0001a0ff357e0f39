#include "runtime/training/sampling.hpp"

#include <cmath>

#include "runtime/core/error.hpp"

namespace filigree {

void check_sampling(const SamplingOptions& options) {
  if (!(options.temperature > 0.0) || !std::isfinite(options.temperature))
    throw UserError(str("temperature is ", options.temperature,
                        "; it must be above 0 (--greedy takes the most "
                        "probable token)"));
  if (options.top_k < 0)
    throw UserError(str("top-k is ", options.top_k, "; it must be 0 (all) or more"));
  if (!(options.top_p > 0.0 && options.top_p <= 1.0))
    throw UserError(str("top-p is ", options.top_p, "; allowed: above 0 to 1"));
}

}  // namespace filigree
