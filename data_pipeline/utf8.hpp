// Well-formed UTF-8 (Unicode 15, table 3-7: no surrogates, no overlong forms, nothing above
// U+10FFFF).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace filigree {

// Bytes of the well-formed character that `text` begins with, or 0 when it begins with none. `text`
// is not empty.
std::size_t utf8_character(std::string_view text);

// Where the first ill-formed byte is; text.size() when there is none. A character cut off by the
// end counts as ill-formed.
std::size_t utf8_valid_prefix(std::string_view text);

// How many bytes at the end are the start of a character that more bytes could complete: 0 to 3.
std::size_t utf8_incomplete_suffix(std::string_view text);

// Appends `text` with every ill-formed byte as U+FFFD; returns how many there were.
std::size_t append_valid_utf8(std::string_view text, std::string& out);

}  // namespace filigree
