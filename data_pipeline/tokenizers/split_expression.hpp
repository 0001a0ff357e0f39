// The regular expressions by which byte-level BPE cuts words.
#pragma once

#include <string_view>

namespace filigree {

// tokenizer.json is written for Oniguruma and read here by ICU; text comes in parts, and what was
// cut off is gone. Where `expression` has something that means another thing to ICU (a dot, \w, \h,
// classes within classes, {2}?), or looks back at what is gone (anchors, lookbehind, references):
// the first such place, shortened; otherwise nothing. What is left: alternatives, the groups
// (, (?:, (?i:, (?>, (?=, (?!, classes, \s \S \d \D \r \n \t, general categories such as \p{Lu},
// and quantifiers.
std::string_view unsupported_part(std::string_view expression);

}  // namespace filigree
