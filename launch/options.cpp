#include "launch/options.hpp"

#include <algorithm>
#include <boost/program_options.hpp>
#include <filesystem>
#include <sstream>

#include "launch/option_value.hpp"
#include "launch/process.hpp"
#include "runtime/core/error.hpp"
#include "runtime/storage/atomic_file.hpp"

namespace filigree {
namespace {

namespace po = boost::program_options;

constexpr const char* kCommandLine = "command line";

std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(" \t\r");
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

}  // namespace

void Options::add(std::string name, Target target, OptionSpec spec) {
  FILIGREE_CHECK(find(name) == nullptr, "option ", name, " is registered twice");
  options_.push_back({std::move(name), target, std::move(spec), value_text(target), false});
}

void Options::add_positional(std::string name, Target target, OptionSpec spec) {
  add(std::move(name), target, std::move(spec));
  options_.back().positional = true;
}

void Options::add_alias(std::string alias, std::string name) {
  FILIGREE_CHECK(find(alias) == nullptr && find(name) != nullptr, "alias ", alias, " of ", name);
  aliases_[std::move(alias)] = std::move(name);
}

const Options::Option* Options::find(std::string_view name) const {
  for (const Option& option : options_)
    if (option.name == name) return &option;
  return nullptr;
}

bool Options::parse(const std::vector<std::string>& arguments) {
  for (const std::string& argument : arguments) {
    if (argument == "--") break;
    const bool reference = argument == "--help-config";
    if (reference || argument == "--help" || argument == "-h") {
      print_once(reference ? config_reference() : help());
      return false;
    }
  }
  parsing_ = true;
  const std::vector<Value> values = read_command_line(arguments);
  for (const Value& value : values) given_.push_back(value.name);
  // Which files to read is decided by flags without a dot: these must be known before the files
  // are.
  std::vector<Value> flags, configuration;
  for (const Value& value : values)
    (value.name.find('.') == std::string::npos ? flags : configuration).push_back(value);
  apply(flags);
  if (loader_) {
    try {
      loader_();
    } catch (const UserError& error) {
      problems_.push_back(error.what());
    }
  }
  apply(configuration);
  check_required();
  parsing_ = false;
  fail_if_problems();
  return true;
}

std::vector<Options::Value> Options::read_command_line(std::vector<std::string> arguments) {
  po::options_description description;
  for (const Option& option : options_)
    if (option.is_switch())
      description.add_options()(option.name.c_str(), "");
    else if (!option.positional)
      description.add_options()(option.name.c_str(), po::value<std::string>());
  for (const auto& [alias, name] : aliases_)
    description.add_options()(alias.c_str(), po::value<std::string>());
  constexpr int kStyle = po::command_line_style::allow_long |
                         po::command_line_style::long_allow_adjacent |
                         po::command_line_style::long_allow_next;
  for (;;) {
    try {
      const auto parsed = po::command_line_parser(arguments)
                              .options(description)
                              .style(kStyle)
                              .allow_unregistered()
                              .run();
      std::vector<Value> values;
      std::vector<std::string> words;
      bool after_unknown = false;
      for (const auto& option : parsed.options) {
        // Boost hands out `--unknown value` as an unknown option and a word: the word is part of
        // the mistake.
        const bool is_word = option.string_key.empty() || option.position_key >= 0;
        if (is_word && !(after_unknown && option.original_tokens.size() == 1))
          words.insert(words.end(), option.value.begin(), option.value.end());
        else if (option.unregistered)
          problems_.push_back(unknown(option.string_key, false));
        else if (!is_word)
          values.push_back({without_alias(option.string_key),
                            option.value.empty() ? "true" : option.value[0], kCommandLine});
        after_unknown = option.unregistered && !is_word;
      }
      take_positional(words, values);
      return values;
    } catch (const po::error_with_option_name& error) {
      // Drop the option that has no value and go on, so that the other problems are found as well.
      const std::string name =
          "--" + error.get_option_name().substr(error.get_option_name().find_first_not_of('-'));
      const auto at = std::find_if(
          arguments.begin(), arguments.end(),
          [&](const std::string& word) { return word == name || word.rfind(name + "=", 0) == 0; });
      FILIGREE_CHECK(at != arguments.end(), error.what());
      problems_.push_back(str("option ", name, " needs a value"));
      arguments.erase(at);
    }
  }
}

std::string Options::without_alias(const std::string& name) const {
  const auto alias = aliases_.find(name);
  return alias == aliases_.end() ? name : alias->second;
}

void Options::take_positional(const std::vector<std::string>& words, std::vector<Value>& values) {
  std::vector<const Option*> places;
  for (const Option& option : options_)
    if (option.positional) places.push_back(&option);
  std::size_t place = 0;
  for (const std::string& word : words) {
    if (word.size() > 1 && word[0] == '-') {
      problems_.push_back(unknown(word.substr(word.find_first_not_of('-') == std::string::npos
                                                  ? 0
                                                  : word.find_first_not_of('-')),
                                  false));
      continue;
    }
    if (place == places.size()) {
      problems_.push_back(
          str("unexpected argument '", word, "'; options are written --name value"));
      continue;
    }
    values.push_back({places[place]->name, word, kCommandLine});
    if (!std::holds_alternative<std::vector<std::string>*>(places[place]->target)) ++place;
  }
}

std::string Options::unknown(const std::string& name, bool in_file) const {
  std::vector<std::string> names;
  for (const Option& option : options_)
    if (!option.positional && (option.is_config() || !in_file)) names.push_back(option.name);
  for (const auto& [alias, meant] : aliases_)
    if (!in_file) names.push_back(alias);
  const std::string near = nearest_name(name, names);
  const std::string dashes = in_file ? "" : "--";
  const std::string hint =
      near.empty()
          ? str("`filigree ", command_.name, in_file ? " --help-config" : " --help", "` lists them")
          : str("did you mean ", dashes, near, "?");
  return str(in_file ? "unknown key " : "unknown option ", dashes, name, "; ", hint);
}

void Options::load_file(const std::string& path) {
  if (!std::filesystem::is_regular_file(path))
    throw UserError(
        str("cannot read the configuration file '", path, "'; presets are in configs/"));
  load_text(read_file(path), path);
}

void Options::load_text(std::string_view text, const std::string& source) {
  apply(read_text(text, source));
  if (!parsing_) fail_if_problems();
}

// One line at a time through Boost, under its section, so that every problem has a line number.
std::vector<Options::Value> Options::read_text(std::string_view text, const std::string& source) {
  std::vector<Value> values;
  std::istringstream lines{std::string(text)};
  std::string line, section;
  for (int number = 1; std::getline(lines, line); ++number) {
    const std::string where = str(source, ":", number);
    const std::string content = trimmed(line.substr(0, line.find('#')));
    if (content.empty()) continue;
    if (content.front() == '[' && content.back() == ']') {
      section = trimmed(content.substr(1, content.size() - 2));
      continue;
    }
    try {
      std::istringstream one(section.empty() ? content : str("[", section, "]\n", content));
      for (const auto& option :
           po::parse_config_file(one, po::options_description(), true).options) {
        const Option* known = find(option.string_key);
        if (known == nullptr || !known->is_config())
          problems_.push_back(str(where, ": ", unknown(option.string_key, true)));
        else
          values.push_back({option.string_key, option.value[0], where});
      }
    } catch (const po::error&) {
      problems_.push_back(str(where, ": '", content, "' is neither '[section]' nor 'key = value'"));
    }
  }
  return values;
}

void Options::apply(const std::vector<Value>& values) {
  std::map<std::string, std::string> seen;
  for (const Value& value : values) {
    const bool list = std::holds_alternative<std::vector<std::string>*>(find(value.name)->target);
    const auto [first, fresh] = seen.emplace(value.name, value.source);
    if (!fresh && !list)
      problems_.push_back(
          str(value.source, ": ", value.name, " is given twice",
              first->second == value.source ? "" : str(", first at ", first->second)));
    else
      apply_one(value);
  }
}

void Options::apply_one(const Value& value) {
  const Option& option = *find(value.name);
  const std::string shown = value.source == kCommandLine && !option.positional
                                ? str("--", value.name, " ", value.text)
                                : str(value.source, ": ", value.name, " = ", value.text);
  // '#' starts a comment in a file: such a value could not be written back.
  if (option.is_config() && value.text.find_first_of("#\n") != std::string::npos)
    problems_.push_back(str(shown, ": must not contain '#' or a line break"));
  else if (const std::string problem = set_value(option.target, option.spec, value.text);
           !problem.empty())
    problems_.push_back(str(shown, ": ", problem));
}

void Options::check_required() {
  for (const Option& option : options_)
    if (option.spec.required && value_text(option.target).empty())
      problems_.push_back(str(option.positional ? "" : "--", option.name, " is missing: ",
                              option.spec.description, "; example: ", command_.example));
}

void Options::fail_if_problems() {
  if (problems_.empty()) return;
  std::string message;
  for (const std::string& problem : problems_) message += (message.empty() ? "" : "\n") + problem;
  problems_.clear();
  throw UserError(message);
}

bool Options::given(std::string_view name) const {
  return std::find(given_.begin(), given_.end(), name) != given_.end();
}

}  // namespace filigree
