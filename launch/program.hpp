// The command line of `filigree`, from the first argument to the exit code.
#pragma once

#include <string>
#include <vector>

#include "launch/command.hpp"

namespace filigree {

inline constexpr std::string_view kVersion = FILIGREE_VERSION;

// Runs `filigree ARGUMENTS` with these commands and returns the exit code. Throws what the command
// throws, and UserError for a command that there is none of.
int run_program(const std::vector<std::string>& arguments, const std::vector<Command>& commands);

}  // namespace filigree
