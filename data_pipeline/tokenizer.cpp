#include "data_pipeline/tokenizer.hpp"

#include <unordered_map>

#include "data_pipeline/byte_level_bpe_file.hpp"
#include "data_pipeline/tokenizer_model.hpp"
#include "data_pipeline/utf8.hpp"
#include "runtime/core/error.hpp"
#include "runtime/storage/atomic_file.hpp"
#include "runtime/storage/hash.hpp"

namespace filigree {
namespace {

constexpr std::size_t kLongestKnownWord = 64;
constexpr std::size_t kMostKnownWords = std::size_t{1} << 16;

const Token& token_of(const TokenizerModel& model, std::int32_t id) {
  FILIGREE_CHECK(id >= 0 && id < std::ssize(model.tokens()), "token id ", id, " of ",
                 model.tokens().size());
  return model.tokens()[static_cast<std::size_t>(id)];
}

}  // namespace

Tokenizer Tokenizer::load(const std::filesystem::path& model_file) {
  std::string bytes = read_file(model_file);
  if (is_tokenizer_json(bytes) && !has_end_of_document(bytes))
    bytes = with_end_of_document(std::move(bytes), model_file);
  return from_bytes(std::move(bytes), model_file.string());
}

Tokenizer Tokenizer::from_bytes(std::string model_bytes, const std::string& origin) {
  Tokenizer tokenizer;
  tokenizer.model_ = is_tokenizer_json(model_bytes) ? byte_level_bpe_tokenizer(model_bytes, origin)
                                                    : sentencepiece_tokenizer(model_bytes, origin);
  tokenizer.hash_ = std::make_shared<std::string>(hash128(model_bytes));
  tokenizer.bytes_ = std::make_shared<std::string>(std::move(model_bytes));
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
  for (const std::int32_t id : ids)
    if (id < vocabulary()) bytes += token_of(*model_, id).text;
  if (utf8_valid_prefix(bytes) == bytes.size()) return bytes;
  append_valid_utf8(bytes, valid);
  return valid;
}

const std::string& Tokenizer::piece(std::int32_t id) const { return token_of(*model_, id).name; }
std::int64_t Tokenizer::vocabulary() const { return std::ssize(model_->tokens()); }
std::int32_t Tokenizer::begin_of_document() const { return model_->begin_of_document(); }
std::int32_t Tokenizer::end_of_document() const { return model_->end_of_document(); }
bool Tokenizer::is_unknown(std::int32_t id) const {
  return token_of(*model_, id).kind == TokenKind::unknown;
}
bool Tokenizer::is_byte(std::int32_t id) const {
  return token_of(*model_, id).kind == TokenKind::byte;
}

struct StreamEncoder::State final : WordSink {
  explicit State(const Tokenizer& tokenizer)
      : model(tokenizer.model_), splitter(model->splitter()) {}

  void token(std::int32_t id) override { ids->push_back(id); }
  void word(std::string_view text) override {
    if (text.size() > kLongestKnownWord) return model->append_ids(text, *ids);
    key = text;
    const auto found = known.find(key);
    if (found != known.end()) {
      ids->insert(ids->end(), found->second.begin(), found->second.end());
      return;
    }
    const auto before = static_cast<std::ptrdiff_t>(ids->size());
    model->append_ids(text, *ids);
    if (known.size() == kMostKnownWords) known.clear();
    known.emplace(key, std::vector<std::int32_t>(ids->begin() + before, ids->end()));
  }

  std::shared_ptr<const TokenizerModel> model;
  std::unique_ptr<WordSplitter> splitter;
  std::string key;  // of the word being looked up
  std::unordered_map<std::string, std::vector<std::int32_t>> known;
  std::vector<std::int32_t>* ids = nullptr;  // of the caller
};

StreamEncoder::StreamEncoder(const Tokenizer& tokenizer)
    : state_(std::make_unique<State>(tokenizer)) {}
StreamEncoder::~StreamEncoder() = default;

void StreamEncoder::push(std::string_view part, std::vector<std::int32_t>& ids) {
  state_->ids = &ids;
  state_->splitter->push(part, *state_);
}

void StreamEncoder::finish(std::vector<std::int32_t>& ids) {
  state_->ids = &ids;
  state_->splitter->finish(*state_);
}

}  // namespace filigree
