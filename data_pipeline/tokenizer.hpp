// SentencePiece tokenizer: BPE with byte fallback, newlines kept.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace filigree {

class Tokenizer {
 public:
  // Throws UserError naming the file when it is missing or no SentencePiece model.
  static Tokenizer load(const std::filesystem::path& model_file);
  static Tokenizer from_bytes(std::string model_bytes, const std::string& origin);

  // decode(encode(text)) == text for any valid UTF-8.
  std::vector<std::int32_t> encode(std::string_view text) const;
  std::string decode(std::span<const std::int32_t> ids) const;
  std::string piece(std::int32_t id) const;   // the token as text, for listings

  std::int64_t vocabulary() const;
  std::int32_t end_of_document() const;       // the id put between documents
  const std::string& hash() const;            // hex of the model's bytes: identity of the tokenizer
  const std::string& bytes() const;           // the model file itself

 private:
  struct Model;
  std::shared_ptr<const Model> model_;
};

}  // namespace filigree
