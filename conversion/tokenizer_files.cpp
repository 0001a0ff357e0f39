#include "conversion/tokenizer_files.hpp"

#include <algorithm>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "conversion/sentencepiece_model.hpp"
#include "data_pipeline/byte_level_bpe_file.hpp"
#include "runtime/core/error.hpp"
#include "runtime/storage/atomic_file.hpp"

namespace filigree {
namespace {

using nlohmann::ordered_json;

constexpr char kSpace[] = "\xE2\x96\x81";

SentencePieceModel model_of(const Tokenizer& tokenizer) {
  return parse_sentencepiece_model(tokenizer.bytes(), "the run's tokenizer");
}

std::int64_t unknown_id(const SentencePieceModel& model) {
  for (std::size_t id = 0; id < model.pieces.size(); ++id)
    if (model.pieces[id].type == PieceType::unknown) return static_cast<std::int64_t>(id);
  throw UserError("the run's tokenizer has no unknown piece, which tokenizer.json needs");
}

// Where a character of UTF-8 begins.
bool begins_character(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) != 0x80; }

// SentencePiece merges neighbours whose joint piece has the best score; tokenizers merges those
// whose pair stands first in a list. So: for every piece all its halves that are pieces, ordered by
// the piece's score and then as tokenizers' own converter does.
std::vector<std::string> merges_of(const SentencePieceModel& model) {
  std::unordered_map<std::string_view, std::size_t> ids;
  for (std::size_t id = 0; id < model.pieces.size(); ++id)
    if (model.pieces[id].type == PieceType::normal) ids[model.pieces[id].text] = id;
  struct Merge {
    float score;
    std::size_t left, right;
  };
  std::vector<Merge> merges;
  for (const SentencePiece& piece : model.pieces) {
    if (piece.type != PieceType::normal) continue;
    const std::string_view text = piece.text;
    for (std::size_t at = 1; at < text.size(); ++at) {
      if (!begins_character(text[at])) continue;
      const auto left = ids.find(text.substr(0, at)), right = ids.find(text.substr(at));
      if (left != ids.end() && right != ids.end())
        merges.push_back({piece.score, left->second, right->second});
    }
  }
  std::sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
    return std::tuple(-a.score, a.left, a.right) < std::tuple(-b.score, b.left, b.right);
  });
  std::vector<std::string> lines;
  for (const Merge& merge : merges)
    lines.push_back(model.pieces[merge.left].text + " " + model.pieces[merge.right].text);
  return lines;
}

ordered_json bpe_model(const SentencePieceModel& model) {
  ordered_json vocabulary;
  for (std::size_t id = 0; id < model.pieces.size(); ++id) vocabulary[model.pieces[id].text] = id;
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", model.pieces[static_cast<std::size_t>(unknown_id(model))].text},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", true},
          {"byte_fallback", true},
          {"ignore_merges", false},
          {"vocab", vocabulary},
          {"merges", merges_of(model)}};
}

ordered_json unigram_model(const SentencePieceModel& model) {
  ordered_json vocabulary = ordered_json::array();
  for (const SentencePiece& piece : model.pieces)
    vocabulary.push_back(ordered_json::array({piece.text, piece.score}));
  return {{"type", "Unigram"},
          {"unk_id", unknown_id(model)},
          {"vocab", vocabulary},
          {"byte_fallback", true}};
}

ordered_json algorithm_of(const SentencePieceModel& model) {
  if (model.algorithm == SentencePieceAlgorithm::bpe) return bpe_model(model);
  if (model.algorithm == SentencePieceAlgorithm::unigram) return unigram_model(model);
  throw UserError(
      "the run's tokenizer is a SentencePiece model of words or characters, which tokenizer.json "
      "has no form for; unigram and bpe models have one");
}

ordered_json added_tokens(const SentencePieceModel& model) {
  ordered_json tokens = ordered_json::array();
  for (std::size_t id = 0; id < model.pieces.size(); ++id) {
    const SentencePiece& piece = model.pieces[id];
    const bool special = piece.type == PieceType::control || piece.type == PieceType::unknown;
    if (special || piece.type == PieceType::user_defined)
      tokens.push_back({{"id", id},
                        {"content", piece.text},
                        {"single_word", false},
                        {"lstrip", false},
                        {"rstrip", false},
                        {"normalized", false},
                        {"special", special}});
  }
  return tokens;
}

// The begin of a document before every text; a second text follows the first.
ordered_json template_of(const std::string& begin, std::int64_t id) {
  const auto token = [&](int type) -> ordered_json {
    return {{"SpecialToken", {{"id", begin}, {"type_id", type}}}};
  };
  const auto sequence = [](const char* name, int type) -> ordered_json {
    return {{"Sequence", {{"id", name}, {"type_id", type}}}};
  };
  return {{"type", "TemplateProcessing"},
          {"single", ordered_json::array({token(0), sequence("A", 0)})},
          {"pair", ordered_json::array({token(0), sequence("A", 0), token(1), sequence("B", 1)})},
          {"special_tokens",
           {{begin,
             {{"id", begin},
              {"ids", ordered_json::array({id})},
              {"tokens", ordered_json::array({begin})}}}}}};
}

ordered_json replacement(const char* from, const char* to) {
  return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
}

std::string piece_text(const SentencePieceModel& model, std::int64_t id) {
  return model.pieces[static_cast<std::size_t>(id)].text;
}

}  // namespace

ordered_json tokenizer_json(const Tokenizer& tokenizer) {
  const SentencePieceModel model = model_of(tokenizer);
  const std::int64_t begin = tokenizer.begin_of_document();
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", added_tokens(model)},
          {"normalizer", replacement(" ", kSpace)},
          {"pre_tokenizer", nullptr},
          {"post_processor", template_of(piece_text(model, begin), begin)},
          {"decoder",
           {{"type", "Sequence"},
            {"decoders",
             ordered_json::array(
                 {replacement(kSpace, " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}})}}},
          {"model", algorithm_of(model)}};
}

namespace {

void write_json(const std::filesystem::path& file, const ordered_json& json, int indent = 2) {
  write_file_atomically(file, json.dump(indent) + "\n");
}

ordered_json general_settings(std::int64_t sequence) {
  return {{"tokenizer_class", "PreTrainedTokenizerFast"},
          {"model_max_length", sequence},
          {"model_input_names", {"input_ids", "attention_mask"}},
          {"clean_up_tokenization_spaces", false}};
}

void write_sentencepiece_files(const std::filesystem::path& folder, const Tokenizer& tokenizer,
                               std::int64_t sequence) {
  const SentencePieceModel model = model_of(tokenizer);
  const ordered_json special = {{"bos_token", piece_text(model, tokenizer.begin_of_document())},
                                {"eos_token", piece_text(model, tokenizer.end_of_document())},
                                {"unk_token", piece_text(model, unknown_id(model))}};
  ordered_json config = general_settings(sequence);
  config.update(special);
  write_json(folder / "tokenizer.json", tokenizer_json(tokenizer), 1);
  write_json(folder / "tokenizer_config.json", config);
  write_json(folder / "special_tokens_map.json", special);
  write_file_atomically(folder / "tokenizer.model", tokenizer.bytes());
}

ByteLevelBpeFile byte_level_file(const Tokenizer& tokenizer) {
  return parse_byte_level_bpe(tokenizer.bytes(), "of the run");
}

void write_byte_level_files(const std::filesystem::path& folder, const Tokenizer& tokenizer,
                            std::int64_t sequence) {
  write_file_atomically(folder / "tokenizer.json", without_end_of_document(tokenizer.bytes()));
  const std::string given = byte_level_file(tokenizer).tokenizer_config;
  if (!given.empty()) return write_file_atomically(folder / "tokenizer_config.json", given);
  ordered_json config = general_settings(sequence);
  config["eos_token"] = tokenizer.piece(tokenizer.end_of_document());
  write_json(folder / "tokenizer_config.json", config);
}

}  // namespace

void write_tokenizer_files(const std::filesystem::path& folder, const Tokenizer& tokenizer,
                           std::int64_t sequence) {
  const bool byte_level = is_tokenizer_json(tokenizer.bytes());
  (byte_level ? write_byte_level_files : write_sentencepiece_files)(folder, tokenizer, sequence);
}

SpecialIds special_ids(const Tokenizer& tokenizer) {
  const std::int64_t begin = tokenizer.begin_of_document(), end = tokenizer.end_of_document();
  if (tokenizer.begins_documents() || !is_tokenizer_json(tokenizer.bytes())) return {begin, end};
  const ByteLevelBpeFile file = byte_level_file(tokenizer);
  return {id_of_token(file, token_setting(file, "bos_token")).value_or(end), end};
}

}  // namespace filigree
