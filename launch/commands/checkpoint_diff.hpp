#pragma once

#include "launch/command.hpp"

namespace filigree {

Command checkpoint_diff_command();

}  // namespace filigree
