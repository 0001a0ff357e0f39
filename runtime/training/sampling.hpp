// How the next token of a generated text is picked.
#pragma once

#include "kernels/sampling/sample_token.hpp"

namespace filigree {

// Throws UserError naming the option that is out of range.
void check_sampling(const SamplingOptions& options);

}  // namespace filigree
