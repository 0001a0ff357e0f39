#include "data_pipeline/tokenizers/split_expression.hpp"

#include <algorithm>
#include <cstddef>

#include "data_pipeline/utf8.hpp"

namespace filigree {
namespace {

constexpr std::size_t kShown = 16;
constexpr std::string_view kClassEscapes = "sSdDrnt";
constexpr std::string_view kPunctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Each function returns the length of what `text` begins with, 0 where that is not supported.

std::size_t escape(std::string_view text) {
  if (text.size() < 2) return 0;
  if (kClassEscapes.find(text[1]) != std::string_view::npos) return 2;
  if (kPunctuation.find(text[1]) != std::string_view::npos) return 2;
  if (text[1] != 'p' && text[1] != 'P') return 0;
  const std::size_t end = text.substr(0, 6).find('}');  // \p{L} and \p{Lu}
  if (end == std::string_view::npos || end < 4 || text[2] != '{') return 0;
  const std::string_view category = text.substr(3, end - 3);
  return std::all_of(category.begin(), category.end(), is_letter) ? end + 1 : 0;
}

std::size_t character_class(std::string_view text) {
  if (text.starts_with("[:")) return 0;  // a property to one reader, characters to the other
  std::size_t at = text.starts_with("[^") ? 2 : 1;
  const std::size_t begin = at;
  while (at < text.size()) {
    const std::string_view rest = text.substr(at);
    if (rest[0] == ']') return at == begin ? 0 : at + 1;
    if (rest[0] == '[' || rest.starts_with("&&") || rest.starts_with("--")) return 0;
    const std::size_t length = rest[0] == '\\' ? escape(rest) : 1;
    if (length == 0) return 0;
    at += length;
  }
  return 0;
}

std::size_t group(std::string_view text) {
  if (!text.starts_with("(?")) return 1;
  for (const std::string_view known : {"(?:", "(?i:", "(?=", "(?!", "(?>"})
    if (text.starts_with(known)) return known.size();
  return 0;
}

// {2}, {2,} or {2,3}. What follows one makes it possessive or lazy for one reader only.
std::size_t interval(std::string_view text) {
  const std::size_t end = text.find('}');
  if (end == std::string_view::npos || end < 2 || !is_digit(text[1])) return 0;
  const std::string_view counts = text.substr(1, end - 1);
  const bool plain =
      std::all_of(counts.begin(), counts.end(), [](char c) { return is_digit(c) || c == ','; }) &&
      std::count(counts.begin(), counts.end(), ',') <= 1;
  const bool followed = end + 1 < text.size() && (text[end + 1] == '+' || text[end + 1] == '?');
  return plain && !followed ? end + 1 : 0;
}

std::size_t part(std::string_view text) {
  switch (text[0]) {
    case '\\':
      return escape(text);
    case '[':
      return character_class(text);
    case '(':
      return group(text);
    case '{':
      return interval(text);
    case '.':
    case '^':
    case '$':
      return 0;
    default:
      return 1;
  }
}

}  // namespace

std::string_view unsupported_part(std::string_view expression) {
  while (!expression.empty()) {
    const std::size_t length = part(expression);
    if (length == 0) {
      std::string_view shown = expression.substr(0, kShown);
      shown.remove_suffix(utf8_incomplete_suffix(shown));
      return shown;
    }
    expression.remove_prefix(length);
  }
  return {};
}

}  // namespace filigree
