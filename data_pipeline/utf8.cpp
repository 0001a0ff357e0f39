#include "data_pipeline/utf8.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace filigree {
namespace {

std::uint8_t byte_at(std::string_view text, std::size_t index) {
  return static_cast<std::uint8_t>(text[index]);
}

// Length of the character that begins with `lead`, and the range of its second byte; length 0: none
// begins so.
struct Lead {
  std::size_t length;
  std::uint8_t second_low, second_high;
};
Lead examine(std::uint8_t lead) {
  if (lead < 0x80) return {1, 0x80, 0xBF};
  if (lead < 0xC2) return {0, 0, 0};
  if (lead < 0xE0) return {2, 0x80, 0xBF};
  if (lead == 0xE0) return {3, 0xA0, 0xBF};
  if (lead == 0xED) return {3, 0x80, 0x9F};
  if (lead < 0xF0) return {3, 0x80, 0xBF};
  if (lead == 0xF0) return {4, 0x90, 0xBF};
  if (lead < 0xF4) return {4, 0x80, 0xBF};
  if (lead == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

// Continuation bytes after the lead that fit, up to the length of the character.
std::size_t fitting_bytes(std::string_view text, const Lead& lead) {
  std::size_t count = 1;
  while (count < lead.length && count < text.size()) {
    const std::uint8_t low = count == 1 ? lead.second_low : 0x80;
    const std::uint8_t high = count == 1 ? lead.second_high : 0xBF;
    if (byte_at(text, count) < low || byte_at(text, count) > high) break;
    ++count;
  }
  return count;
}

}  // namespace

std::size_t utf8_character(std::string_view text) {
  const Lead lead = examine(byte_at(text, 0));
  return lead.length != 0 && fitting_bytes(text, lead) == lead.length ? lead.length : 0;
}

std::size_t utf8_valid_prefix(std::string_view text) {
  std::size_t position = 0;
  while (position < text.size()) {
    // Most text is ASCII: eight bytes at a time.
    std::uint64_t word = 0;
    if (position + sizeof word <= text.size()) {
      std::memcpy(&word, text.data() + position, sizeof word);
      if ((word & 0x8080808080808080u) == 0) {
        position += sizeof word;
        continue;
      }
    }
    const std::size_t length = utf8_character(text.substr(position));
    if (length == 0) break;
    position += length;
  }
  return position;
}

std::size_t utf8_incomplete_suffix(std::string_view text) {
  for (std::size_t back = 1; back <= std::min<std::size_t>(3, text.size()); ++back) {
    const std::string_view suffix = text.substr(text.size() - back);
    const Lead lead = examine(byte_at(suffix, 0));
    if (lead.length > back && fitting_bytes(suffix, lead) == back) return back;
  }
  return 0;
}

std::size_t append_valid_utf8(std::string_view text, std::string& out) {
  std::size_t replaced = 0;
  while (!text.empty()) {
    const std::size_t valid = utf8_valid_prefix(text);
    out.append(text.substr(0, valid));
    text.remove_prefix(valid);
    if (text.empty()) break;
    out.append("\xEF\xBF\xBD");
    text.remove_prefix(1);
    ++replaced;
  }
  return replaced;
}

}  // namespace filigree
