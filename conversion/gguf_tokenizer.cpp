#include "conversion/gguf_tokenizer.hpp"

#include <algorithm>
#include <iterator>

#include "conversion/sentencepiece_model.hpp"
#include "conversion/tokenizer_files.hpp"
#include "data_pipeline/byte_level_bpe_file.hpp"

namespace filigree {
namespace {

// Types of tokens have the numbers of PieceType.
struct Tokens {
  std::vector<std::string> texts;
  std::vector<std::int32_t> types;

  void add(std::string text, PieceType type) {
    texts.push_back(std::move(text));
    types.push_back(static_cast<std::int32_t>(type));
  }
  // Rows of the embedding that no token has.
  void fill(std::int64_t vocabulary) {
    while (std::ssize(texts) < vocabulary) add(str("[PAD", texts.size(), "]"), PieceType::unused);
  }
  void write(std::string_view model, GgufWriter& writer) const {
    writer.add("tokenizer.ggml.model", model);
    writer.add("tokenizer.ggml.tokens", std::span<const std::string>(texts));
    writer.add("tokenizer.ggml.token_type", std::span<const std::int32_t>(types));
  }
};

void write_special_ids(const Tokenizer& tokenizer, GgufWriter& writer) {
  const SpecialIds ids = special_ids(tokenizer);
  writer.add("tokenizer.ggml.bos_token_id", static_cast<std::uint32_t>(ids.begin));
  writer.add("tokenizer.ggml.eos_token_id", static_cast<std::uint32_t>(ids.end));
}

void describe_sentencepiece(const Tokenizer& tokenizer, std::int64_t vocabulary,
                            GgufWriter& writer) {
  const SentencePieceModel model =
      parse_sentencepiece_model(tokenizer.bytes(), "the run's tokenizer");
  if (model.algorithm != SentencePieceAlgorithm::bpe)
    throw UserError(
        "--to gguf: the run's tokenizer is a SentencePiece model, but no BPE one, which is the "
        "kind that GGUF files of llama hold; --to huggingface takes unigram models too");
  Tokens tokens;
  std::vector<float> scores;
  std::uint32_t unknown = 0;
  for (const SentencePiece& piece : model.pieces) {
    if (piece.type == PieceType::unknown) unknown = static_cast<std::uint32_t>(scores.size());
    tokens.add(piece.text, piece.type);
    scores.push_back(piece.score);
  }
  tokens.fill(vocabulary);
  scores.resize(tokens.texts.size(), 0.0f);
  tokens.write("llama", writer);
  writer.add("tokenizer.ggml.scores", std::span<const float>(scores));
  write_special_ids(tokenizer, writer);
  writer.add("tokenizer.ggml.unknown_token_id", unknown);
  // A text begins after the end of another one, as in training.
  writer.add("tokenizer.ggml.add_bos_token", true);
  writer.add("tokenizer.ggml.add_eos_token", false);
  writer.add("tokenizer.ggml.add_space_prefix", false);
}

// Llama 3's; Qwen2's takes single digits.
constexpr std::string_view kLlama3Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// llama.cpp's names of pre-tokenizers (llama-vocab.cpp). Of the two with Llama 3's expression only
// llama-bpe ignores merges.
struct KnownPreTokenizer {
  std::string_view words;
  bool ignore_merges;
  std::string_view name;
};
constexpr KnownPreTokenizer kPreTokenizers[] = {
    {kGpt2Words, false, "gpt-2"},
    {kLlama3Words, true, "llama-bpe"},
    {kLlama3Words, false, "smaug-bpe"},
    {kQwen2Words, false, "qwen2"},
};

std::string_view pre_tokenizer_of(const ByteLevelBpeFile& file) {
  const auto* known =
      std::find_if(std::begin(kPreTokenizers), std::end(kPreTokenizers), [&](const auto& one) {
        return one.words == file.words && one.ignore_merges == file.ignore_merges;
      });
  if (known != std::end(kPreTokenizers)) return known->name;
  throw UserError(
      str("--to gguf: llama.cpp has no name for the pre-tokenizer of the run's "
          "tokenizer, whose expression is ",
          file.words, " with ignore_merges = ", file.ignore_merges ? "true" : "false",
          "; it has one for those of GPT-2, Llama 3 and Qwen2; --to huggingface takes "
          "any"));
}

PieceType type_of(BytePieceType type) {
  switch (type) {
    case BytePieceType::literal:
      return PieceType::user_defined;
    case BytePieceType::special:
      return PieceType::control;
    default:
      return PieceType::normal;
  }
}

void describe_byte_level(const Tokenizer& tokenizer, std::int64_t vocabulary, GgufWriter& writer) {
  const ByteLevelBpeFile file = parse_byte_level_bpe(tokenizer.bytes(), "of the run");
  Tokens tokens;
  for (const BytePiece& piece : file.pieces) tokens.add(piece.name, type_of(piece.type));
  std::vector<std::string> merges;
  for (const ByteMerge& merge : file.merges)
    merges.push_back(tokens.texts[static_cast<std::size_t>(merge.left)] + " " +
                     tokens.texts[static_cast<std::size_t>(merge.right)]);
  tokens.fill(vocabulary);
  tokens.write("gpt2", writer);
  writer.add("tokenizer.ggml.pre", pre_tokenizer_of(file));
  writer.add("tokenizer.ggml.merges", std::span<const std::string>(merges));
  write_special_ids(tokenizer, writer);
  // Otherwise it goes by the name of the pre-tokenizer, as the original does.
  if (const auto add = token_setting(file, "add_bos_token"); add.is_boolean())
    writer.add("tokenizer.ggml.add_bos_token", add.get<bool>());
}

}  // namespace

void describe_tokenizer(const Tokenizer& tokenizer, std::int64_t vocabulary, GgufWriter& writer) {
  if (is_tokenizer_json(tokenizer.bytes()))
    describe_byte_level(tokenizer, vocabulary, writer);
  else
    describe_sentencepiece(tokenizer, vocabulary, writer);
}

}  // namespace filigree
