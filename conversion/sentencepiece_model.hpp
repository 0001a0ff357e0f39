// What a SentencePiece model file says, read from its protocol buffer (sentencepiece_model.proto):
// more than the SentencePiece library tells.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace filigree {

// Values as in the .proto.
enum class PieceType : std::uint8_t {
  normal = 1,
  unknown = 2,
  control = 3,
  user_defined = 4,
  unused = 5,
  byte = 6,
};
enum class SentencePieceAlgorithm : std::uint8_t { unigram = 1, bpe = 2, word = 3, character = 4 };

struct SentencePiece {
  std::string text;  // spaces as U+2581
  float score = 0.0f;
  PieceType type = PieceType::normal;
};

struct SentencePieceModel {
  std::vector<SentencePiece> pieces;  // by id
  SentencePieceAlgorithm algorithm = SentencePieceAlgorithm::unigram;
  bool adds_dummy_prefix = true;  // a space before every text
};

// Throws UserError that starts with `origin` when the bytes are no such message.
SentencePieceModel parse_sentencepiece_model(const std::string& bytes, const std::string& origin);

// The same model, which no longer puts a space before a text or drops any.
std::string without_dummy_prefix(const std::string& bytes);

}  // namespace filigree
