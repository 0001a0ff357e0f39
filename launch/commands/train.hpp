#pragma once

#include "launch/command.hpp"

namespace filigree {

// Trains a language model, or goes on with a run.
Command train_command();

}  // namespace filigree
