#pragma once

#include "launch/command.hpp"

namespace filigree {

Command checkpoint_verify_command();

}  // namespace filigree
