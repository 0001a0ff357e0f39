#pragma once

#include "launch/command.hpp"

namespace filigree {

// The log-probability of every token of a text.
Command score_command();

}  // namespace filigree
