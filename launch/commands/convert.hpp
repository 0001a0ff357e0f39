#pragma once

#include "launch/command.hpp"

namespace filigree {

Command convert_command();

}  // namespace filigree
