#pragma once

#include "launch/command.hpp"

namespace filigree {

// Training speed on every layout that the ranks at hand allow.
Command bench_scale_command();

}  // namespace filigree
