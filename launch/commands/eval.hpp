#pragma once

#include "launch/command.hpp"

namespace filigree {

// Loss, perplexity and bits per byte of a trained model on a split.
Command eval_command();

}  // namespace filigree
