#pragma once

#include "launch/command.hpp"

namespace filigree {

// Continues a prompt.
Command generate_command();

}  // namespace filigree
