// What stands behind a Tokenizer: one class for each kind of model file.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace filigree {

enum class TokenKind : std::uint8_t { text, byte, control, unknown };

struct Token {
  std::string text;  // what it decodes to: bytes, which need not be whole characters
  std::string name;  // for listings: valid UTF-8
  TokenKind kind = TokenKind::text;
};

// Receives what a WordSplitter has cut off, in the order of the text.
class WordSink {
 public:
  virtual void word(std::string_view text) = 0;  // encoded by TokenizerModel::append_ids
  virtual void token(std::int32_t id) = 0;       // a stretch of text that is one token as it is

 protected:
  ~WordSink() = default;
};

// Cuts a text that comes in parts into words: stretches no token reaches across, so that each is
// encoded by itself. Where they are cut depends on the text alone, not on where its parts end; what
// is held back for that is bounded.
class WordSplitter {
 public:
  virtual ~WordSplitter() = default;
  // Hands over the words that are certain by now. `part` is valid UTF-8.
  virtual void push(std::string_view part, WordSink& sink) = 0;
  // Hands over the rest; a new text may follow.
  virtual void finish(WordSink& sink) = 0;
};

// Immutable once made: threads may share it.
class TokenizerModel {
 public:
  virtual ~TokenizerModel() = default;
  virtual std::unique_ptr<WordSplitter> splitter() const = 0;
  virtual void append_ids(std::string_view word, std::vector<std::int32_t>& ids) const = 0;

  const std::vector<Token>& tokens() const { return tokens_; }  // by id
  std::int32_t begin_of_document() const {
    return begin_of_document_ < 0 ? end_of_document_ : begin_of_document_;
  }
  std::int32_t end_of_document() const { return end_of_document_; }

 protected:
  std::vector<Token> tokens_;
  std::int32_t begin_of_document_ = -1;  // -1: documents have only an end
  std::int32_t end_of_document_ = -1;
};

// `origin` names the file in errors, which are UserErrors.
std::shared_ptr<const TokenizerModel> sentencepiece_tokenizer(const std::string& bytes,
                                                              const std::string& origin);
std::shared_ptr<const TokenizerModel> byte_level_bpe_tokenizer(const std::string& bytes,
                                                               const std::string& origin);

}  // namespace filigree
