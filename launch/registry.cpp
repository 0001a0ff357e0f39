#include "launch/command.hpp"
#include "launch/commands/data_inspect.hpp"
#include "launch/commands/data_tokenize.hpp"

namespace filigree {

const std::vector<Command>& commands() {
  static const std::vector<Command> list = {
      data_tokenize_command(),
      data_inspect_command(),
  };
  return list;
}

}  // namespace filigree
