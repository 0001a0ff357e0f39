#include "launch/program.hpp"

#include <algorithm>

#include "launch/process.hpp"
#include "runtime/core/error.hpp"

namespace filigree {
namespace {

std::string overview(const std::vector<Command>& commands) {
  std::size_t width = 0;
  for (const Command& command : commands) width = std::max(width, command.name.size());
  std::string text =
      "Filigree trains adaptive sparse transformers on many GPUs and CPU cores.\n\n"
      "Usage: filigree COMMAND [options]\n"
      "       mpirun -np N filigree train [options]\n\nCommands:\n";
  for (const Command& command : commands)
    text += str("  ", command.name, std::string(width + 3 - command.name.size(), ' '),
                command.summary, "\n");
  return text +
         "\n`filigree COMMAND --help` explains one; `filigree --version` prints the version.\n";
}

// How many leading arguments spell the command's name: 2 for "data tokenize"; 0 when they do not.
std::size_t words_matched(const Command& command, const std::vector<std::string>& arguments) {
  const auto space = command.name.find(' ');
  const std::string_view first = command.name.substr(0, space);
  if (arguments.empty() || arguments[0] != first) return 0;
  if (space == std::string_view::npos) return 1;
  return arguments.size() > 1 && arguments[1] == command.name.substr(space + 1) ? 2 : 0;
}

[[noreturn]] void refuse(const std::vector<std::string>& arguments,
                         const std::vector<Command>& commands) {
  std::vector<std::string> names;
  std::string family;
  for (const Command& command : commands) {
    names.emplace_back(command.name);
    if (command.name.substr(0, command.name.find(' ')) == arguments[0] &&
        command.name.find(' ') != std::string_view::npos)
      family += str(family.empty() ? "" : ", ", command.name);
  }
  if (!family.empty() && (arguments.size() == 1 || arguments[1].rfind('-', 0) == 0))
    throw UserError(str("'", arguments[0], "' needs a second word: ", family));
  const bool two = arguments.size() > 1 && arguments[1].rfind('-', 0) != 0;
  const std::string both = two ? str(arguments[0], " ", arguments[1]) : arguments[0];
  std::string near = nearest_name(both, names);
  if (near.empty()) near = nearest_name(arguments[0], names);
  throw UserError(
      str("unknown command '",
          family.empty() && near.find(' ') == std::string::npos ? arguments[0] : both, "'; ",
          near.empty() ? "`filigree --help` lists them" : str("did you mean '", near, "'?")));
}

}  // namespace

int run_program(const std::vector<std::string>& arguments, const std::vector<Command>& commands) {
  if (arguments.empty() || arguments[0] == "--help" || arguments[0] == "-h") {
    print_once(overview(commands));
    return arguments.empty() ? exit_code::kUserError : exit_code::kOk;
  }
  if (arguments[0] == "--version") {
    print_once(str("filigree ", kVersion, "\n"));
    return exit_code::kOk;
  }
  for (const Command& command : commands)
    if (const std::size_t words = words_matched(command, arguments); words > 0)
      return command.run({arguments.begin() + static_cast<std::ptrdiff_t>(words), arguments.end()});
  refuse(arguments, commands);
}

}  // namespace filigree
