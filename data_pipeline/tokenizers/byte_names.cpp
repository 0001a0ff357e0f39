#include "data_pipeline/tokenizers/byte_names.hpp"

#include <array>
#include <unordered_map>

#include "data_pipeline/utf8.hpp"

namespace filigree {
namespace {

std::array<char32_t, 256> byte_characters() {
  std::array<char32_t, 256> characters{};
  char32_t next = 0x100;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool prints = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    characters[byte] = prints ? byte : next++;
  }
  return characters;
}

std::unordered_map<std::string_view, char> bytes_by_name() {
  static const auto names = [] {
    std::array<std::string, 256> result;
    for (int byte = 0; byte < 256; ++byte)
      result[static_cast<std::size_t>(byte)] = name_of_byte(static_cast<std::uint8_t>(byte));
    return result;
  }();
  std::unordered_map<std::string_view, char> bytes;
  for (std::size_t byte = 0; byte < 256; ++byte)
    bytes.emplace(names[byte], static_cast<char>(byte));
  return bytes;
}

}  // namespace

std::string name_of_byte(std::uint8_t byte) {
  static const std::array<char32_t, 256> characters = byte_characters();
  const char32_t code = characters[byte];
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
}

bool bytes_of_name(std::string_view name, std::string& bytes) {
  static const auto values = bytes_by_name();
  bytes.clear();
  while (!name.empty()) {
    const std::size_t length = utf8_character(name);
    const auto found = values.find(name.substr(0, length));
    if (length == 0 || found == values.end()) return false;
    bytes += found->second;
    name.remove_prefix(length);
  }
  return true;
}

}  // namespace filigree
