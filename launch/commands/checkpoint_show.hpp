#pragma once

#include "launch/command.hpp"

namespace filigree {

Command checkpoint_show_command();

}  // namespace filigree
