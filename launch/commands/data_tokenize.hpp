#pragma once

#include "launch/command.hpp"

namespace filigree {

// Text files to a folder of token shards.
Command data_tokenize_command();

}  // namespace filigree
