#include "data_pipeline/tokenizer.hpp"

#include <sentencepiece_processor.h>

#include <array>

#include "data_pipeline/utf8.hpp"
#include "runtime/core/error.hpp"
#include "runtime/storage/atomic_file.hpp"
#include "runtime/storage/hash.hpp"

namespace filigree {
namespace {

// SentencePiece writes a space as U+2581 and cannot tell it from a U+2581 of the text, which
// therefore is encoded as its three bytes.
constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";

// A longer run without a space or newline is divided, between two characters.
constexpr std::size_t kLongestWord = std::size_t{1} << 12;
constexpr std::size_t kLongestKnownWord = 64;
constexpr std::size_t kMostKnownWords = std::size_t{1} << 16;

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

}  // namespace

struct Tokenizer::Model {
  std::string bytes, hash;
  sentencepiece::SentencePieceProcessor processor;
  std::vector<std::string> text;  // what each id decodes to
  std::array<std::int32_t, 256> byte_ids{};
  std::int32_t end_of_document = -1;
  bool word_by_word = true;  // no piece spans words

  void fill_tables(const std::string& origin);
  void append_ids(std::string_view segment, std::vector<std::int32_t>& ids) const;
};

void Tokenizer::Model::fill_tables(const std::string& origin) {
  byte_ids.fill(-1);
  const int vocabulary = processor.GetPieceSize();
  text.resize(static_cast<std::size_t>(vocabulary));
  for (int id = 0; id < vocabulary; ++id) {
    std::string& decoded = text[static_cast<std::size_t>(id)];
    if (processor.IsByte(id)) {  // "<0xE2>"
      const int value = std::stoi(processor.IdToPiece(id).substr(3, 2), nullptr, 16);
      byte_ids[static_cast<std::size_t>(value)] = id;
      decoded = static_cast<char>(value);
    } else if (!processor.IsControl(id) && !processor.IsUnknown(id)) {
      decoded = with_spaces(processor.IdToPiece(id));
      if (spans_words(decoded)) word_by_word = false;
    } else if (processor.IsUnknown(id)) {
      decoded = "\xEF\xBF\xBD";
    }
  }
  for (const std::int32_t id : byte_ids) {
    if (id >= 0) continue;
    throw UserError(str("tokenizer ", origin,
                        ": it has no byte fallback, so some texts could not be "
                        "encoded; train it with --byte_fallback=true"));
  }
  end_of_document = processor.eos_id();
  if (end_of_document < 0) {
    throw UserError(str("tokenizer ", origin,
                        ": it has no end-of-sentence id, which separates "
                        "documents; train it without --eos_id=-1"));
  }
}

void Tokenizer::Model::append_ids(std::string_view segment, std::vector<std::int32_t>& ids) const {
  std::vector<int> found;
  while (!segment.empty()) {
    const std::size_t symbol = segment.find(kSpaceSymbol);
    const std::string_view plain = segment.substr(0, symbol);
    if (!plain.empty()) {
      const auto status = processor.Encode({plain.data(), plain.size()}, &found);
      FILIGREE_CHECK(status.ok(), "SentencePiece: ", status.ToString());
      ids.insert(ids.end(), found.begin(), found.end());
    }
    if (symbol == std::string_view::npos) break;
    for (const char byte : kSpaceSymbol) {
      ids.push_back(byte_ids[static_cast<std::uint8_t>(byte)]);
    }
    segment.remove_prefix(symbol + kSpaceSymbol.size());
  }
}

Tokenizer::Tokenizer(std::shared_ptr<const Model> model) : model_(std::move(model)) {}

Tokenizer Tokenizer::load(const std::filesystem::path& model_file) {
  return from_bytes(read_file(model_file), model_file.string());
}

Tokenizer Tokenizer::from_bytes(std::string model_bytes, const std::string& origin) {
  auto model = std::make_shared<Model>();
  const auto status =
      model_bytes.empty()
          ? sentencepiece::util::Status(sentencepiece::util::StatusCode::kDataLoss, "it is empty")
          : model->processor.LoadFromSerializedProto({model_bytes.data(), model_bytes.size()});
  if (!status.ok()) {
    throw UserError(str("tokenizer ", origin, ": not a SentencePiece model (",
                        status.error_message(),
                        "); give the .model file of spm_train or of `filigree data tokenize`"));
  }
  model->bytes = std::move(model_bytes);
  model->hash = hash128(model->bytes);
  model->fill_tables(origin);

  const Tokenizer tokenizer(std::move(model));
  for (const std::string_view probe :
       {"a", " a", "  a  b ", "A\tb\n\nc\r\n", "\xEF\xAC\x81\xC2\xA0x", "\xE2\x96\x81",
        "<s></s><unk><0x41>", "e\xCC\x81"}) {
    const std::string back = tokenizer.decode(tokenizer.encode(probe));
    if (back == probe) continue;
    throw UserError(str("tokenizer ", origin, ": it changes text ('", probe, "' comes back as '",
                        back,
                        "'); train it with --normalization_rule_name=identity "
                        "--add_dummy_prefix=false --remove_extra_whitespaces=false"));
  }
  return tokenizer;
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<std::int32_t> ids;
  StreamEncoder encoder(*this);
  encoder.push(text, ids);
  encoder.finish(ids);
  return ids;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids) const {
  std::string bytes, valid;
  for (const std::int32_t id : ids) {
    FILIGREE_CHECK(id >= 0 && id < vocabulary(), "token id ", id, " of ", vocabulary());
    bytes += model_->text[static_cast<std::size_t>(id)];
  }
  if (utf8_valid_prefix(bytes) == bytes.size()) return bytes;
  append_valid_utf8(bytes, valid);
  return valid;
}

std::string Tokenizer::piece(std::int32_t id) const {
  FILIGREE_CHECK(id >= 0 && id < vocabulary(), "token id ", id, " of ", vocabulary());
  const std::string& text = model_->text[static_cast<std::size_t>(id)];
  const bool printable = !text.empty() && !is_unknown(id) && utf8_valid_prefix(text) == text.size();
  return printable ? text : model_->processor.IdToPiece(id);
}

std::int64_t Tokenizer::vocabulary() const { return model_->processor.GetPieceSize(); }
std::int32_t Tokenizer::end_of_document() const { return model_->end_of_document; }
bool Tokenizer::is_unknown(std::int32_t id) const { return model_->processor.IsUnknown(id); }
bool Tokenizer::is_byte(std::int32_t id) const { return model_->processor.IsByte(id); }
const std::string& Tokenizer::hash() const { return model_->hash; }
const std::string& Tokenizer::bytes() const { return model_->bytes; }

// Where the word that `text` begins with ends, or npos when more text is needed to know. A newline
// is a word.
std::size_t StreamEncoder::word_end(std::string_view text) const {
  const std::string_view window = text.substr(0, kLongestWord);
  if (tokenizer_.model_->word_by_word) {
    if (!window.empty() && window[0] == '\n') return 1;
    const std::size_t begin = window.find_first_not_of(' ');
    const std::size_t end =
        begin == std::string_view::npos ? begin : window.find_first_of(" \n", begin);
    if (end != std::string_view::npos) return end;
  }
  if (text.size() <= kLongestWord) return std::string_view::npos;
  return window.size() - utf8_incomplete_suffix(window);
}

void StreamEncoder::append_word(std::string_view word, std::vector<std::int32_t>& ids) {
  if (word.size() > kLongestKnownWord) return tokenizer_.model_->append_ids(word, ids);
  key_ = word;
  const auto known = known_.find(key_);
  if (known != known_.end()) {
    ids.insert(ids.end(), known->second.begin(), known->second.end());
    return;
  }
  const auto before = static_cast<std::ptrdiff_t>(ids.size());
  tokenizer_.model_->append_ids(word, ids);
  if (known_.size() == kMostKnownWords) known_.clear();
  known_.emplace(key_, std::vector<std::int32_t>(ids.begin() + before, ids.end()));
}

void StreamEncoder::push(std::string_view part, std::vector<std::int32_t>& ids) {
  pending_ += part;
  std::string_view rest = pending_;
  for (std::size_t end = word_end(rest); end != std::string_view::npos; end = word_end(rest)) {
    append_word(rest.substr(0, end), ids);
    rest.remove_prefix(end);
  }
  pending_.erase(0, pending_.size() - rest.size());
}

void StreamEncoder::finish(std::vector<std::int32_t>& ids) {
  append_word(pending_, ids);
  pending_.clear();
}

}  // namespace filigree
