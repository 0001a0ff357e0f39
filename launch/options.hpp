// Options of a command: `--name value` flags and `[section]` `key = value` files, both read by
// Boost.Program_options and checked by the same rules.
//
// A struct's fields are registered once, with a description, a unit, a range and, as the default,
// the value they hold at that time. A name with a dot ("train.steps") is configuration: it may also
// stand in a file, is written back by config_text() and documented by --help-config. A name without
// one ("output") is a flag of this command only. Later sources win: defaults, files in the order
// they are read, the command line.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "launch/command.hpp"

namespace filigree {

// What an option means and which values it takes.
struct OptionSpec {
  std::string description;  // one line, no full stop
  std::string unit;         // "tokens", "seconds"; for strings the placeholder: "DIR", "FILE"
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  bool above_min = false;            // min itself is not allowed
  std::vector<std::string> allowed;  // strings only; empty: anything
  bool required = false;             // must be given and not be empty
};

class Options {
 public:
  explicit Options(const Command& command) : command_(command) {}
  Options(const Options&) = delete;
  Options& operator=(const Options&) = delete;

  // A bool without a dot is a switch (`--no-cache`); one with a dot takes true or false. A vector
  // may be given several times. The target must outlive this object.
  using Target = std::variant<std::string*, bool*, int*, std::int64_t*, std::uint64_t*, double*,
                              std::vector<std::string>*>;
  void add(std::string name, Target target, OptionSpec spec);
  // The next argument that is not an option: `filigree data inspect DIR`. Its name has no dot.
  void add_positional(std::string name, Target target, OptionSpec spec);
  // `--alias VALUE` on the command line means `--name VALUE`, of an option that has been added.
  void add_alias(std::string alias, std::string name);

  // Reads and applies the command line. Returns false when --help or --help-config was asked for
  // and printed. Throws one UserError that holds every problem found, one a line.
  [[nodiscard]] bool parse(const std::vector<std::string>& arguments);

  // parse() calls `load` once the flags without a dot have their values and before the command
  // line's configuration is applied: the place for load_file().
  void set_loader(std::function<void()> load) { loader_ = std::move(load); }

  // Applies a file, or a text in file form. Problems name `source:line`. Throws UserError with all
  // of them, except within parse(), which reports them with its own.
  void load_file(const std::string& path);
  void load_text(std::string_view text, const std::string& source);

  // Whether the command line gave this option, and every name it gave.
  bool given(std::string_view name) const;
  std::vector<std::string> given() const;

  // The configuration as a file: sections and keys in the order of registration, numbers in the
  // shortest form that reads back to the same value.
  std::string config_text() const;
  std::string help() const;
  std::string config_reference() const;  // Markdown

 private:
  struct Option {
    std::string name;
    Target target;
    OptionSpec spec;
    std::string default_text;
    bool positional = false;
    bool is_config() const { return name.find('.') != std::string::npos; }
    bool is_switch() const { return std::holds_alternative<bool*>(target) && !is_config(); }
  };
  struct Value {
    std::string name, text;
    std::string source;  // "configs/a.cfg:12", "command line"
  };

  std::vector<Value> read_command_line(std::vector<std::string> arguments);
  std::string without_alias(const std::string& name) const;
  void take_positional(const std::vector<std::string>& words, std::vector<Value>& values);
  std::vector<Value> read_text(std::string_view text, const std::string& source);
  void apply(const std::vector<Value>& values);
  void apply_one(const Value& value);
  void check_required();
  void fail_if_problems();
  const Option* find(std::string_view name) const;
  std::string unknown(const std::string& name, bool in_file) const;

  Command command_;
  std::vector<Option> options_;
  std::map<std::string, std::string, std::less<>> aliases_;  // to names
  std::vector<std::string> problems_;
  std::vector<std::string> given_;
  std::function<void()> loader_;
  bool parsing_ = false;
};

}  // namespace filigree
