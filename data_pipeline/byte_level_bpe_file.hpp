// What a tokenizer.json of Hugging Face (the format of the `tokenizers` package) says, where it is
// byte-level BPE: the tokenizers of GPT-2, Llama 3, Qwen2 and Qwen3.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace filigree {

// What a pre_tokenizer ByteLevel that cuts words by itself cuts them by.
inline constexpr std::string_view kGpt2Words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

enum class BytePieceType : std::uint8_t {
  normal,   // of the BPE model
  literal,  // an added token that is not special: its text always becomes this token
  special,  // an added token that is: never made from text, decodes to nothing
};

struct BytePiece {
  std::string name;  // normal ones: each byte as a printable character, a space as U+0120
  BytePieceType type = BytePieceType::normal;
};

struct ByteMerge {
  std::int32_t left = 0, right = 0, joined = 0;  // ids of normal pieces
};
// Both ids in one number.
inline std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
}

struct ByteLevelBpeFile {
  std::vector<BytePiece> pieces;  // by id
  std::vector<ByteMerge> merges;  // the first that applies is applied first
  bool ignore_merges = false;     // a word that is a piece is that piece, whatever its merges are
  bool normalises = false;        // to NFC
  std::string words;  // before it is encoded, a text is cut into the matches of this regular
                      // expression and what lies between them
  std::int32_t begin_of_document = -1;  // what post_processor puts before a text, -1: nothing
  std::int32_t end_of_document = -1;
  std::string tokenizer_config;  // the text of the tokenizer_config.json beside it, or empty
};

// Whether the bytes are meant as one: JSON.
bool is_tokenizer_json(std::string_view bytes);

// A tokenizer.json does not name the token that ends a document. Ours is the file with a member of
// ours in a first line of its own, before all others:
//   {"filigree": {"end_of_document": 151643, "tokenizer_config": "{...}"},
// with_end_of_document adds it: the eos_token_id (of a list the first) of the config.json beside
// `file`, otherwise that of generation_config.json, otherwise the eos_token of
// tokenizer_config.json, whose text is kept. Throws UserError where none says it, or what they say
// is no special token of the file.
bool has_end_of_document(std::string_view bytes);
std::string with_end_of_document(std::string bytes, const std::filesystem::path& file);
std::string without_end_of_document(const std::string& bytes);  // the original, byte for byte

// Of bytes that have the end of a document. The file may come from a stranger: throws UserError of
// one line that names the file, the field, its value and what is allowed, for whatever byte-level
// BPE as above does not use and for pieces, ids and merges that do not fit together. Truncation,
// padding and what else of post_processor adds to a text's own ids are not looked at.
ByteLevelBpeFile parse_byte_level_bpe(const std::string& bytes, const std::string& origin);

// What its tokenizer_config says under `key`, or null.
nlohmann::json token_setting(const ByteLevelBpeFile& file, const std::string& key);
// The id of a token as bos_token and eos_token give it there: a text, or an object with its
// content.
std::optional<std::int32_t> id_of_token(const ByteLevelBpeFile& file, const nlohmann::json& token);

}  // namespace filigree
