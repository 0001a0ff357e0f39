#include "launch/option_value.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "runtime/core/error.hpp"

namespace filigree {
namespace {

template <class... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};
template <class... Handlers>
Overloaded(Handlers...) -> Overloaded<Handlers...>;

std::string number_text(double value) {
  char buffer[32];
  const auto result = std::to_chars(buffer, buffer + sizeof buffer, value);
  return std::string(buffer, result.ptr);
}

std::string range_text(const OptionSpec& spec, std::string_view noun) {
  const bool low = std::isfinite(spec.min), high = std::isfinite(spec.max);
  if (low && high)
    return str(noun, spec.above_min ? " above " : " from ", number_text(spec.min),
               spec.above_min ? " and up to " : " to ", number_text(spec.max));
  if (low) return str(noun, spec.above_min ? " above " : " of at least ", number_text(spec.min));
  if (high) return str(noun, " of at most ", number_text(spec.max));
  return std::string(noun);
}

bool in_range(const OptionSpec& spec, double value) {
  return (spec.above_min ? value > spec.min : value >= spec.min) && value <= spec.max;
}

template <class T>
std::string set_number(T* target, const OptionSpec& spec, const std::string& text,
                       std::string_view noun) {
  T value{};
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  const bool read = result.ec == std::errc() && result.ptr == end && !text.empty();
  // from_chars also reads "nan" and "inf", which no option means.
  if (!read || !std::isfinite(static_cast<double>(value)) ||
      !in_range(spec, static_cast<double>(value)))
    return str("must be ", range_text(spec, noun));
  *target = value;
  return "";
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

std::string set_string(std::string* target, const OptionSpec& spec, const std::string& text) {
  if (!spec.allowed.empty() &&
      std::find(spec.allowed.begin(), spec.allowed.end(), text) == spec.allowed.end()) {
    const std::string near = nearest_name(text, spec.allowed);
    return str("must be one of ", joined(spec.allowed),
               near.empty() ? "" : str("; did you mean '", near, "'?"));
  }
  *target = text;
  return "";
}

std::string set_bool(bool* target, const std::string& text) {
  if (text != "true" && text != "false") return "must be true or false";
  *target = text == "true";
  return "";
}

}  // namespace

std::string set_value(const Options::Target& target, const OptionSpec& spec,
                      const std::string& text) {
  return std::visit(
      Overloaded{[&](std::string* value) { return set_string(value, spec, text); },
                 [&](bool* value) { return set_bool(value, text); },
                 [&](double* value) { return set_number(value, spec, text, "a number"); },
                 [&](std::vector<std::string>* values) {
                   std::string value;
                   const std::string problem = set_string(&value, spec, text);
                   if (problem.empty()) values->push_back(value);
                   return problem;
                 },
                 [&](auto* value) { return set_number(value, spec, text, "a whole number"); }},
      target);
}

std::string value_text(const Options::Target& target) {
  return std::visit(
      Overloaded{[](const std::string* value) { return *value; },
                 [](const bool* value) { return std::string(*value ? "true" : "false"); },
                 [](const double* value) { return number_text(*value); },
                 [](const std::vector<std::string>* values) { return joined(*values); },
                 [](const auto* value) { return std::to_string(*value); }},
      target);
}

std::string allowed_text(const Options::Target& target, const OptionSpec& spec) {
  return std::visit(
      Overloaded{[](const bool*) { return std::string("true or false"); },
                 [&](const std::string*) { return joined(spec.allowed); },
                 [&](const std::vector<std::string>*) { return joined(spec.allowed); },
                 [&](const double*) { return range_text(spec, "a number"); },
                 [&](const auto*) { return range_text(spec, "a whole number"); }},
      target);
}

std::string placeholder(const Options::Target& target, const OptionSpec& spec) {
  return std::visit(
      Overloaded{
          [](const bool*) { return std::string("BOOL"); },
          [&](const std::string*) { return spec.unit.empty() ? "TEXT" : spec.unit; },
          [&](const std::vector<std::string>*) { return spec.unit.empty() ? "TEXT" : spec.unit; },
          [](const double*) { return std::string("X"); },
          [](const auto*) { return std::string("N"); }},
      target);
}

}  // namespace filigree
