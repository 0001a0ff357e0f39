// SentencePiece: BPE or unigram pieces over Unicode, single bytes for characters without one.
#include <sentencepiece_processor.h>

#include <array>

#include "data_pipeline/tokenizer_model.hpp"
#include "data_pipeline/utf8.hpp"
#include "runtime/core/error.hpp"

namespace filigree {
namespace {

// SentencePiece writes a space as U+2581 and cannot tell it from a U+2581 of the text, which
// therefore is encoded as its three bytes.
constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";

// A longer run without a space or newline is divided, between two characters.
constexpr std::size_t kLongestWord = std::size_t{1} << 12;

// Whether a piece, decoded, could be part of two words: a newline beside something else, or a space
// after something else.
bool spans_words(std::string_view piece) {
  const std::size_t text = piece.find_first_not_of(' ');
  return piece.size() > 1 &&
         (piece.find('\n') != std::string_view::npos ||
          (text != std::string_view::npos && piece.find(' ', text) != std::string_view::npos));
}

std::string with_spaces(std::string_view piece) {
  std::string text;
  for (std::size_t symbol = piece.find(kSpaceSymbol); symbol != std::string_view::npos;
       symbol = piece.find(kSpaceSymbol)) {
    text += piece.substr(0, symbol);
    text += ' ';
    piece.remove_prefix(symbol + kSpaceSymbol.size());
  }
  text += piece;
  return text;
}

// A word is a newline, or what stands before the next space or newline with the spaces before it.
// Where pieces span such words (word_by_word is false), only the length divides a text.
class SentencePieceSplitter final : public WordSplitter {
 public:
  explicit SentencePieceSplitter(bool word_by_word) : word_by_word_(word_by_word) {}

  void push(std::string_view part, WordSink& sink) override {
    pending_ += part;
    std::string_view rest = pending_;
    for (std::size_t end = word_end(rest); end != std::string_view::npos; end = word_end(rest)) {
      sink.word(rest.substr(0, end));
      rest.remove_prefix(end);
    }
    pending_.erase(0, pending_.size() - rest.size());
  }
  void finish(WordSink& sink) override {
    sink.word(pending_);
    pending_.clear();
  }

 private:
  // Where the word that `text` begins with ends, or npos when more text is needed to know.
  std::size_t word_end(std::string_view text) const {
    const std::string_view window = text.substr(0, kLongestWord);
    if (word_by_word_) {
      if (!window.empty() && window[0] == '\n') return 1;
      const std::size_t begin = window.find_first_not_of(' ');
      const std::size_t end =
          begin == std::string_view::npos ? begin : window.find_first_of(" \n", begin);
      if (end != std::string_view::npos) return end;
    }
    if (text.size() <= kLongestWord) return std::string_view::npos;
    return window.size() - utf8_incomplete_suffix(window);
  }

  bool word_by_word_;
  std::string pending_;
};

class SentencePieceTokenizer final : public TokenizerModel {
 public:
  SentencePieceTokenizer(const std::string& bytes, const std::string& origin);
  std::unique_ptr<WordSplitter> splitter() const override {
    return std::make_unique<SentencePieceSplitter>(word_by_word_);
  }
  void append_ids(std::string_view word, std::vector<std::int32_t>& ids) const override;

 private:
  Token token_of(int id) const;
  void fill_tables(const std::string& origin);
  void check_that_text_comes_back(const std::string& origin) const;

  sentencepiece::SentencePieceProcessor processor_;
  std::array<std::int32_t, 256> byte_ids_{};
  bool word_by_word_ = true;  // no piece spans words
};

SentencePieceTokenizer::SentencePieceTokenizer(const std::string& bytes,
                                               const std::string& origin) {
  const auto status =
      bytes.empty()
          ? sentencepiece::util::Status(sentencepiece::util::StatusCode::kDataLoss, "it is empty")
          : processor_.LoadFromSerializedProto({bytes.data(), bytes.size()});
  if (!status.ok())
    throw UserError(str("tokenizer ", origin, ": not a SentencePiece model (",
                        status.error_message(),
                        "); give the .model file of spm_train or of `filigree data tokenize`, or a "
                        "tokenizer.json"));
  fill_tables(origin);
  check_that_text_comes_back(origin);
}

Token SentencePieceTokenizer::token_of(int id) const {
  const std::string& name = processor_.IdToPiece(id);
  if (processor_.IsByte(id))  // "<0xE2>"
    return {std::string(1, static_cast<char>(std::stoi(name.substr(3, 2), nullptr, 16))), name,
            TokenKind::byte};
  if (processor_.IsUnknown(id)) return {"\xEF\xBF\xBD", name, TokenKind::unknown};
  if (processor_.IsControl(id)) return {"", name, TokenKind::control};
  const std::string text = with_spaces(name);
  return {text, text.empty() ? name : text, TokenKind::text};
}

void SentencePieceTokenizer::fill_tables(const std::string& origin) {
  byte_ids_.fill(-1);
  for (int id = 0; id < processor_.GetPieceSize(); ++id) {
    Token token = token_of(id);
    if (token.kind == TokenKind::text && spans_words(token.text)) word_by_word_ = false;
    if (token.kind == TokenKind::byte) {
      byte_ids_[static_cast<std::uint8_t>(token.text[0])] = id;
      // One of ASCII is a character.
      if (static_cast<std::uint8_t>(token.text[0]) < 0x80) token.name = token.text;
    }
    tokens_.push_back(std::move(token));
  }
  for (const std::int32_t id : byte_ids_)
    if (id < 0)
      throw UserError(str("tokenizer ", origin,
                          ": it has no byte fallback, so some texts could not be "
                          "encoded; train it with --byte_fallback=true"));
  begin_of_document_ = processor_.bos_id();
  end_of_document_ = processor_.eos_id();
  if (end_of_document_ < 0)
    throw UserError(str("tokenizer ", origin,
                        ": it has no end-of-sentence id, which separates "
                        "documents; train it without --eos_id=-1"));
}

void SentencePieceTokenizer::check_that_text_comes_back(const std::string& origin) const {
  for (const std::string_view probe :
       {"a", " a", "  a  b ", "A\tb\n\nc\r\n", "\xEF\xAC\x81\xC2\xA0x", "\xE2\x96\x81",
        "<s></s><unk><0x41>", "e\xCC\x81"}) {
    std::vector<std::int32_t> ids;
    append_ids(probe, ids);
    std::string back;
    for (const std::int32_t id : ids) back += tokens_[static_cast<std::size_t>(id)].text;
    if (back == probe) continue;
    throw UserError(str("tokenizer ", origin, ": it changes text ('", probe, "' comes back as '",
                        back,
                        "'); train it with --normalization_rule_name=identity "
                        "--add_dummy_prefix=false --remove_extra_whitespaces=false"));
  }
}

void SentencePieceTokenizer::append_ids(std::string_view word,
                                        std::vector<std::int32_t>& ids) const {
  std::vector<int> found;
  while (!word.empty()) {
    const std::size_t symbol = word.find(kSpaceSymbol);
    const std::string_view plain = word.substr(0, symbol);
    if (!plain.empty()) {
      const auto status = processor_.Encode({plain.data(), plain.size()}, &found);
      FILIGREE_CHECK(status.ok(), "SentencePiece: ", status.ToString());
      ids.insert(ids.end(), found.begin(), found.end());
    }
    if (symbol == std::string_view::npos) break;
    for (const char byte : kSpaceSymbol) ids.push_back(byte_ids_[static_cast<std::uint8_t>(byte)]);
    word.remove_prefix(symbol + kSpaceSymbol.size());
  }
}

}  // namespace

std::shared_ptr<const TokenizerModel> sentencepiece_tokenizer(const std::string& bytes,
                                                              const std::string& origin) {
  return std::make_shared<SentencePieceTokenizer>(bytes, origin);
}

}  // namespace filigree
