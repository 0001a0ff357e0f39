// Text to option values and back.
#pragma once

#include <string>

#include "launch/options.hpp"

namespace filigree {

// Sets `target` from `text`, or returns why it cannot: "is not a whole number", "must be ...".
// Nothing is set then.
std::string set_value(const Options::Target& target, const OptionSpec& spec,
                      const std::string& text);

// The value as text that set_value() reads back unchanged.
std::string value_text(const Options::Target& target);

// What the option takes, in words: "N > 0", "one of f64, f32, bf16", "true or false"; "" for free
// text.
std::string allowed_text(const Options::Target& target, const OptionSpec& spec);

// What stands for the value in a usage line: "N", "X", "FILE".
std::string placeholder(const Options::Target& target, const OptionSpec& spec);

}  // namespace filigree
