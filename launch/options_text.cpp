// What Options prints: help, the reference page, and the configuration as a file.
#include <algorithm>
#include <sstream>

#include "launch/option_value.hpp"
#include "launch/options.hpp"
#include "runtime/core/error.hpp"

namespace filigree {
namespace {

constexpr std::size_t kColumn = 30;
constexpr std::size_t kWidth = 100;

std::string padded(std::string text, std::size_t width) {
  text.resize(std::max(text.size() + 1, width), ' ');
  return text;
}

std::string section_of(const std::string& name) { return name.substr(0, name.find('.')); }
std::string key_of(const std::string& name) { return name.substr(name.find('.') + 1); }

// "  --name N      description", wrapped with a hanging indent.
std::string help_line(const std::string& left, const std::string& description) {
  std::string text = padded(str("  ", left), kColumn);
  std::size_t column = text.size();
  std::istringstream words(description);
  bool first = true;
  for (std::string word; words >> word; first = false) {
    if (column + 1 + word.size() > kWidth) {
      text += '\n';
      text.append(kColumn, ' ');
      column = kColumn;
    } else if (!first) {
      text += ' ';
      ++column;
    }
    text += word;
    column += word.size();
  }
  text += '\n';
  return text;
}

std::string described(const OptionSpec& spec, const Options::Target& target,
                      const std::string& default_text, bool is_switch) {
  const bool number = !std::holds_alternative<std::string*>(target) &&
                      !std::holds_alternative<bool*>(target) &&
                      !std::holds_alternative<std::vector<std::string>*>(target);
  std::string text = spec.description;
  if (number && !spec.unit.empty()) text += str(" [", spec.unit, "]");
  if (!spec.allowed.empty()) text += str("; ", allowed_text(target, spec));
  if (spec.required) return text + " (required)";
  if (!is_switch && !default_text.empty()) text += str(" (default ", default_text, ")");
  return text;
}

}  // namespace

std::string Options::help() const {
  std::string usage = str("Usage: filigree ", command_.name), flags, configuration;
  for (const Option& option : options_) {
    const std::string value = placeholder(option.target, option.spec);
    const std::string text =
        described(option.spec, option.target, option.default_text, option.is_switch());
    if (option.positional) {
      usage += str(" ", value);
      flags += help_line(value, text);
    } else {
      const std::string left = str("--", option.name, option.is_switch() ? "" : str(" ", value));
      (option.is_config() ? configuration : flags) += help_line(left, text);
    }
  }
  for (const auto& [alias, name] : aliases_) {
    const Option& option = *find(name);
    flags += help_line(str("--", alias, " ", placeholder(option.target, option.spec)),
                       str("short for --", name));
  }
  std::string text =
      str(command_.summary, "\n\n", usage, " [options]\n\nExample:\n  ", command_.example,
          "\n\nOptions:\n", flags, help_line("--help", "print this"));
  if (!configuration.empty())
    text += str(
        help_line("--help-config", "print the configuration's reference page"),
        "\nConfiguration, here as --section.key VALUE or in a file as [section] and key = value:\n",
        configuration);
  return text;
}

std::string Options::config_reference() const {
  std::string text = str("# Configuration of `filigree ", command_.name,
                         "`\n\nIn a file: `[section]` lines, then `key = value`; `#` starts a "
                         "comment. On the command line: "
                         "`--section.key value`,\nwhich wins over the file.\n");
  std::string section;
  for (const Option& option : options_) {
    if (!option.is_config()) continue;
    if (section_of(option.name) != section) {
      section = section_of(option.name);
      text += str("\n## [", section,
                  "]\n\n| key | default | unit | allowed | meaning |\n|---|---|---|---|---|\n");
    }
    text +=
        str("| `", key_of(option.name), "` | ", option.default_text, " | ", option.spec.unit, " | ",
            allowed_text(option.target, option.spec), " | ", option.spec.description, " |\n");
  }
  return text;
}

std::string Options::config_text() const {
  std::string text, section;
  for (const Option& option : options_) {
    if (!option.is_config()) continue;
    if (section_of(option.name) != section) {
      text += str(section.empty() ? "" : "\n", "[", section_of(option.name), "]\n");
      section = section_of(option.name);
    }
    text += str(key_of(option.name), " = ", value_text(option.target), "\n");
  }
  return text;
}

std::vector<std::string> Options::given() const { return given_; }

}  // namespace filigree
