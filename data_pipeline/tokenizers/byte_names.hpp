// The characters that byte-level BPE writes bytes as.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace filigree {

// GPT-2's bytes_to_unicode: bytes that print are their own character, the others those from U+0100
// on, in their order. A space is U+0120.
std::string name_of_byte(std::uint8_t byte);

// The bytes that the characters of a name stand for; false when one stands for none.
bool bytes_of_name(std::string_view name, std::string& bytes);

}  // namespace filigree
