#pragma once

#include "launch/command.hpp"

namespace filigree {

// Shows a folder of token shards and checks every byte of it.
Command data_inspect_command();

}  // namespace filigree
