#include "launch/command.hpp"

namespace filigree {

const std::vector<Command>& commands() {
  static const std::vector<Command> list = {};
  return list;
}

}  // namespace filigree
