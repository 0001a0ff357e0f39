// Text to token ids and back. Two kinds of model file, told apart by their contents: SentencePiece
// (with byte fallback, newlines kept), and byte-level BPE as a tokenizer.json of Hugging Face
// (byte_level_bpe_file.hpp says which).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace filigree {

class TokenizerModel;

class Tokenizer {
 public:
  // A tokenizer.json does not say which token ends a document: its neighbours do, and what they say
  // becomes part of bytes() (with_end_of_document of byte_level_bpe_file.hpp).
  //
  // Throws UserError naming the file when it is missing, of neither kind, has no id for the end of
  // a document, or changes text (SentencePiece's normalisation, dummy prefix, dropped spaces, no
  // byte fallback).
  static Tokenizer load(const std::filesystem::path& model_file);
  static Tokenizer from_bytes(std::string model_bytes, const std::string& origin);

  // decode(encode(text)) == text for any valid UTF-8, or == NFC of text where the tokenizer's file
  // asks for NFC (Qwen's do). Control ids are never made from text, not even from their spelling.
  // Throws UserError when the expression of a tokenizer.json tries too many ways on the text.
  std::vector<std::int32_t> encode(std::string_view text) const;
  // Control ids (begin, end of document) decode to nothing, and so do ids from vocabulary() on,
  // rows of an embedding that no token has; each byte that does not form a character, as when a
  // generation stops inside one, to U+FFFD.
  std::string decode(std::span<const std::int32_t> ids) const;
  // The token as valid UTF-8, for listings: its text, "<0xE2>" for a lone byte, "</s>" for a
  // control id.
  const std::string& piece(std::int32_t id) const;

  std::int64_t vocabulary() const;
  // The id before a document's first one: of its own (Llama's <s>, <|begin_of_text|>), otherwise
  // the end of the document before.
  std::int32_t begin_of_document() const;
  std::int32_t end_of_document() const;  // the id after a document's last one
  // Whether documents of a dataset begin with an id of its own.
  bool begins_documents() const { return begin_of_document() != end_of_document(); }
  bool is_unknown(std::int32_t id) const;
  bool is_byte(std::int32_t id) const;                  // a byte of a character that has no piece
  const std::string& hash() const { return *hash_; }    // hex of bytes(): identity of the tokenizer
  const std::string& bytes() const { return *bytes_; }  // the model file itself

 private:
  friend class StreamEncoder;
  std::shared_ptr<const TokenizerModel> model_;
  std::shared_ptr<const std::string> bytes_, hash_;
};

// encode() for a text that comes in parts; the ids do not depend on where the parts end. One
// document after the other: finish() ends one. Words are encoded one by one and remembered: memory
// stays bounded, and most words are looked up.
class StreamEncoder {
 public:
  explicit StreamEncoder(const Tokenizer& tokenizer);
  ~StreamEncoder();

  // Appends the ids that are certain by now to `ids`. `part` is valid UTF-8.
  void push(std::string_view part, std::vector<std::int32_t>& ids);
  void finish(std::vector<std::int32_t>& ids);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace filigree
