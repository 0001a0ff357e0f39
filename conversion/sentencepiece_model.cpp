#include "conversion/sentencepiece_model.hpp"

#include <cstring>
#include <string_view>

#include "runtime/core/error.hpp"

namespace filigree {
namespace {

// Fields of a protocol buffer message one after the other (protobuf.dev, "Encoding").
class MessageReader {
 public:
  MessageReader(std::string_view bytes, const std::string& origin)
      : bytes_(bytes), origin_(origin) {}

  // Goes on to the next field; false at the end.
  bool next() {
    if (bytes_.empty()) return false;
    const std::uint64_t tag = varint();
    field_ = tag >> 3;
    switch (tag & 7) {
      case 0:
        number_ = varint();
        return true;
      case 1:
        content_ = take(8);
        return true;
      case 2:
        content_ = take(varint());
        return true;
      case 5:
        content_ = take(4);
        return true;
      default:
        damaged();
    }
  }
  std::uint64_t field() const { return field_; }
  std::uint64_t number() const { return number_; }       // of a varint
  std::string_view content() const { return content_; }  // of the other kinds
  float real() const {
    if (content_.size() != sizeof(float)) damaged();
    float value = 0.0f;
    std::memcpy(&value, content_.data(), sizeof(value));
    return value;
  }
  [[noreturn]] void damaged() const {
    throw UserError(str(origin_, ": it is no SentencePiece model or is damaged"));
  }

 private:
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<std::uint8_t>(take(1).front());
      value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    damaged();
  }
  std::string_view take(std::uint64_t count) {
    if (count > bytes_.size()) damaged();
    const std::string_view taken = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return taken;
  }

  std::string_view bytes_;
  const std::string& origin_;
  std::uint64_t field_ = 0, number_ = 0;
  std::string_view content_;
};

// Field numbers of ModelProto and what it holds.
namespace field {
constexpr std::uint64_t kPieces = 1, kTrainer = 2, kNormalizer = 3;
constexpr std::uint64_t kPieceText = 1, kPieceScore = 2, kPieceType = 3;
constexpr std::uint64_t kModelType = 3;
constexpr std::uint64_t kAddDummyPrefix = 3;
}  // namespace field

SentencePiece parse_piece(MessageReader message) {
  SentencePiece piece;
  while (message.next()) {
    if (message.field() == field::kPieceText) piece.text = message.content();
    if (message.field() == field::kPieceScore) piece.score = message.real();
    if (message.field() != field::kPieceType) continue;
    if (message.number() < 1 || message.number() > 6) message.damaged();
    piece.type = static_cast<PieceType>(message.number());
  }
  return piece;
}

}  // namespace

SentencePieceModel parse_sentencepiece_model(const std::string& bytes, const std::string& origin) {
  SentencePieceModel model;
  MessageReader message(bytes, origin);
  while (message.next()) {
    MessageReader inner(message.content(), origin);
    if (message.field() == field::kPieces) model.pieces.push_back(parse_piece(inner));
    if (message.field() == field::kTrainer)
      while (inner.next()) {
        if (inner.field() != field::kModelType) continue;
        if (inner.number() < 1 || inner.number() > 4) inner.damaged();
        model.algorithm = static_cast<SentencePieceAlgorithm>(inner.number());
      }
    if (message.field() == field::kNormalizer)
      while (inner.next())
        if (inner.field() == field::kAddDummyPrefix) model.adds_dummy_prefix = inner.number() != 0;
  }
  if (model.pieces.empty()) message.damaged();
  return model;
}

// A message that stands twice is merged, and the last value of a field counts: normalizer_spec {
// add_dummy_prefix: false remove_extra_whitespaces: false }.
std::string without_dummy_prefix(const std::string& bytes) {
  return bytes + std::string("\x1a\x04\x18\x00\x20\x00", 6);
}

}  // namespace filigree
