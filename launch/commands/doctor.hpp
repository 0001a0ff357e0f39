// `filigree doctor`: what this program is made of, and what this machine offers it.
#pragma once

#include <string>
#include <vector>

#include "launch/command.hpp"
#include "launch/commands/world.hpp"
#include "runtime/core/library_version.hpp"

namespace filigree {

Command doctor_command();

struct Finding {
  // broken: what is there will fail when it is used. missing: filigree does without.
  enum class Status { ok, missing, broken };
  std::string name;
  Status status = Status::ok;
  std::string found;
  std::string hint;  // what to do about what is missing or broken
};
const char* name_of(Finding::Status status);

// Program, processor, memory, libraries, GPUs of this rank's host, in that order. Local.
std::vector<Finding> examine(const RankEnvironment& environment);

// broken where what is loaded is older than what the program was built with, or of another major
// version.
Finding examine_library(const LibraryVersion& library);

// `driver` and `needed` are versions of CUDA as in runtime/cuda/cuda_device.hpp; broken where the
// driver is too old.
Finding examine_driver(int driver, int needed);

}  // namespace filigree
