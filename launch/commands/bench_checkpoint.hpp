#pragma once

#include "launch/command.hpp"

namespace filigree {

// Speed of saving and loading beside the disk's, and the pause of training.
Command bench_checkpoint_command();

}  // namespace filigree
