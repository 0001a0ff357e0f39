// A command of the `filigree` program.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace filigree {

struct Command {
  std::string_view name;        // "train", "data tokenize", "bench kernels"
  std::string_view summary;     // one line for `filigree --help`
  std::string_view example;     // one example for `filigree NAME --help`
  // Arguments after the name. Returns the exit code; throws the errors of runtime/core/error.hpp, which main() turns into
  // a message and an exit code.
  int (*run)(const std::vector<std::string>& arguments);
};

// launch/registry.cpp: every command, in the order of `filigree --help`.
const std::vector<Command>& commands();

}  // namespace filigree
