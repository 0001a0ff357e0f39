// A command of the `filigree` program.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace filigree {

// launch/commands/<name>.hpp declares `Command <name>_command();` ("data tokenize":
// data_tokenize_command) and launch/registry.cpp lists it.
struct Command {
  std::string_view name;     // "train", "data tokenize", "bench kernels"
  std::string_view summary;  // one line for `filigree --help`
  std::string_view example;  // one example for `filigree NAME --help`
  // Arguments after the name. Returns the exit code; throws the errors of runtime/core/error.hpp,
  // which main() turns into a message and an exit code. A command that initialises MPI reports an
  // error itself, with report_current_exception() and its rank, before the job is aborted.
  int (*run)(const std::vector<std::string>& arguments);
};

// launch/registry.cpp: every command, in the order of `filigree --help`.
const std::vector<Command>& commands();

}  // namespace filigree
