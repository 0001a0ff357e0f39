// SentencePiece tokenizer: BPE with byte fallback, newlines kept.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace filigree {

class Tokenizer {
 public:
  // Throws UserError naming the file when it is missing, no SentencePiece model, has no
  // end-of-sentence id, or changes text (normalisation, dummy prefix, dropped spaces, no byte
  // fallback): what is encoded must come back.
  static Tokenizer load(const std::filesystem::path& model_file);
  static Tokenizer from_bytes(std::string model_bytes, const std::string& origin);

  // decode(encode(text)) == text for any valid UTF-8.
  std::vector<std::int32_t> encode(std::string_view text) const;
  // Control ids (begin, end of document) decode to nothing; bytes that do not form a character, as
  // when a generation stops inside one, to U+FFFD.
  std::string decode(std::span<const std::int32_t> ids) const;
  // The token as valid UTF-8, for listings: its text, "<0xE2>" for a lone byte, "</s>" for a
  // control id.
  std::string piece(std::int32_t id) const;

  std::int64_t vocabulary() const;
  std::int32_t end_of_document() const;  // the id put between documents
  bool is_unknown(std::int32_t id) const;
  bool is_byte(std::int32_t id) const;  // a byte of a character that has no piece
  const std::string& hash() const;      // hex of the model's bytes: identity of the tokenizer
  const std::string& bytes() const;     // the model file itself

 private:
  friend class StreamEncoder;
  struct Model;
  explicit Tokenizer(std::shared_ptr<const Model> model);
  std::shared_ptr<const Model> model_;
};

// encode() for a text that comes in parts; the ids do not depend on where the parts end. One
// document after the other: finish() ends one.
//
// Pieces reach neither across a newline nor across the beginning of a run of spaces, so words (with
// the spaces before them) are encoded one by one and remembered: memory stays bounded, and most
// words are looked up.
class StreamEncoder {
 public:
  explicit StreamEncoder(Tokenizer tokenizer) : tokenizer_(std::move(tokenizer)) {}

  // Appends the ids that are certain by now to `ids`. `part` is valid UTF-8.
  void push(std::string_view part, std::vector<std::int32_t>& ids);
  void finish(std::vector<std::int32_t>& ids);

 private:
  std::size_t word_end(std::string_view text) const;
  void append_word(std::string_view word, std::vector<std::int32_t>& ids);

  Tokenizer tokenizer_;
  std::string pending_;
  std::string key_;  // of the word being looked up
  std::unordered_map<std::string, std::vector<std::int32_t>> known_;
};

}  // namespace filigree
