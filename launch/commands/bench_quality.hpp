#pragma once

#include "launch/command.hpp"

namespace filigree {

// Quality of sparse attention patterns side by side, on text or on a recall task.
Command bench_quality_command();

}  // namespace filigree
