// A tokenizer as the files that `transformers` and `tokenizers` load.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include <nlohmann/json.hpp>

#include "conversion/model_description.hpp"
#include "data_pipeline/tokenizer.hpp"

namespace filigree {

// tokenizer.json (tokenizers' own format) of a SentencePiece tokenizer: BPE or unigram with byte
// fallback, which gives any text the ids of Tokenizer::encode. Two kinds of text differ: the
// spelling of a control token ("</s>"), which is that token there and plain text here, and U+2581,
// which is a space there. Where special tokens are asked for, which is the default, a text begins
// as a document does, as in training and `filigree generate`. Throws UserError for models
// of whole words or characters.
nlohmann::ordered_json tokenizer_json(const Tokenizer& tokenizer);

// Of a SentencePiece tokenizer: tokenizer.json, tokenizer_config.json, special_tokens_map.json, and
// the model itself as tokenizer.model. Of a byte-level one the tokenizer.json and
// tokenizer_config.json that it came from, byte for byte (of the latter a short one, where there
// was none). sequence: the longest sequence that the model was trained on.
void write_tokenizer_files(const std::filesystem::path& folder, const Tokenizer& tokenizer,
                           std::int64_t sequence);

// What a document begins and ends with; the bos_token that the tokenizer_config.json of a
// byte-level tokenizer names without putting it before a text counts as its begin.
SpecialIds special_ids(const Tokenizer& tokenizer);

}  // namespace filigree
