#pragma once

#include "launch/command.hpp"

namespace filigree {

Command checkpoint_prune_command();

}  // namespace filigree
