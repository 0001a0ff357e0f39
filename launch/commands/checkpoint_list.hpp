#pragma once

#include "launch/command.hpp"

namespace filigree {

Command checkpoint_list_command();

}  // namespace filigree
