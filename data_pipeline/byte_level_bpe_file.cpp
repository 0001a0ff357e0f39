#include "data_pipeline/byte_level_bpe_file.hpp"

#include <initializer_list>
#include <system_error>
#include <unordered_map>
#include <unordered_set>

#include "data_pipeline/tokenizers/byte_names.hpp"
#include "data_pipeline/tokenizers/json_field.hpp"
#include "data_pipeline/tokenizers/split_expression.hpp"
#include "runtime/storage/atomic_file.hpp"
#include "runtime/storage/untrusted_json.hpp"

namespace filigree {
namespace {

using nlohmann::json;

constexpr std::string_view kOurs = "{\"filigree\": ";
constexpr char kTokenizerConfig[] = "tokenizer_config.json";

// `cuts`: whether it shall cut words by itself, by GPT-2's expression.
void check_byte_level(const JsonField& field, bool cuts) {
  field["type"].allow({"ByteLevel"});
  field["add_prefix_space"].allow({false}, " (a space before every text would change it)");
  if (field["use_regex"].flag(true) != cuts) field["use_regex"].refuse(cuts ? "true" : "false");
}

// A Split that makes each match and each stretch between two a word.
std::string split_expression(const JsonField& field) {
  field["type"].allow({"Split"});
  field["behavior"].allow({"Isolated"});
  field["invert"].allow({nullptr, false});
  const JsonField expression = field["pattern"]["Regex"];
  if (const std::string_view part = unsupported_part(expression.text()); !part.empty())
    expression.refuse("expressions of the kind that GPT-2, Llama 3 and Qwen2 have, without ",
                      json(part).dump());
  return expression.text();
}

std::string read_pre_tokenizer(const JsonField& field) {
  if (field["type"].value() != "Sequence") {
    field["type"].allow({"ByteLevel", "Sequence"});
    check_byte_level(field, true);
    return std::string(kGpt2Words);
  }
  const JsonField list = field["pretokenizers"];
  if (list.list().size() != 2) list.refuse("a Split and a ByteLevel");
  check_byte_level(list[1], false);
  return split_expression(list[0]);
}

// Reads model and added_tokens; what each function needs of the ones before is in its fields.
class ModelReader {
 public:
  ModelReader(const JsonField& root, ByteLevelBpeFile& file) : root_(root), file_(file) {}

  void read() {
    check_kind(root_["model"]);
    read_vocabulary(root_["model"]["vocab"]);
    read_added(root_["added_tokens"]);
    check_bytes();
    read_merges(root_["model"]["merges"]);
  }

 private:
  void check_kind(const JsonField& model) {
    model["type"].allow({nullptr, "BPE"});
    model["byte_fallback"].allow(
        {nullptr, false},
        " (true is a SentencePiece model: give its tokenizer.model file instead)");
    model["dropout"].allow({nullptr, 0.0});
    model["continuing_subword_prefix"].allow({nullptr, ""});
    model["end_of_word_suffix"].allow({nullptr, ""});
    file_.ignore_merges = model["ignore_merges"].flag(false);
    root_["decoder"]["type"].allow({"ByteLevel"});
  }

  // How many ids there are: each is given to one piece then, and none is left.
  std::size_t count_pieces(const JsonField& vocabulary) {
    std::unordered_set<std::string_view> added;
    const JsonField list = root_["added_tokens"];
    if (!list.value().is_null())
      for (std::size_t i = 0; i < list.list().size(); ++i)
        if (const std::string& content = list[i]["content"].text();
            !vocabulary.object().contains(content) && !added.insert(content).second)
          list[i]["content"].refuse("every token once");
    return vocabulary.object().size() + added.size();
  }

  void give(std::int32_t id, const JsonField& field, const std::string& name, BytePieceType type) {
    BytePiece& piece = file_.pieces[static_cast<std::size_t>(id)];
    if (!piece.name.empty() && piece.name != name)
      field.refuse("ids of one piece each; ", json(piece.name).dump(), " has this one too");
    piece = {name, type};
  }

  void read_vocabulary(const JsonField& vocabulary) {
    file_.pieces.resize(count_pieces(vocabulary));
    ids_.reserve(file_.pieces.size());
    for (const auto& [name, value] : vocabulary.object()) {
      const JsonField field = vocabulary[name];
      if (name.empty()) vocabulary.refuse("names that are not empty");
      const std::int32_t id = field.id(file_.pieces.size());
      give(id, field, name, BytePieceType::normal);
      ids_.emplace(name, id);
    }
  }

  void read_added(const JsonField& added) {
    if (added.value().is_null()) return;
    for (std::size_t i = 0; i < added.list().size(); ++i) {
      const JsonField token = added[i];
      const std::string& content = token["content"].text();
      const bool special = token["special"].flag(false);
      const auto known = ids_.find(content);
      const std::int32_t id = token["id"].id(file_.pieces.size());
      if (known != ids_.end() && known->second != id)
        token["id"].refuse(known->second, ", which model.vocab gives to ", json(content).dump());
      give(id, token["id"], content, special ? BytePieceType::special : BytePieceType::literal);
      if (!special) check_literal(token);
      if (!special && known != ids_.end()) check_spelling(token["content"]);
    }
  }

  // It is looked for in the text as it is given.
  void check_literal(const JsonField& token) {
    for (const char* key : {"single_word", "lstrip", "rstrip"})
      token[key].allow({nullptr, false}, " (of tokens that are not special)");
    if (file_.normalises)
      token["normalized"].allow({false}, " (of tokens that are not special, with a normalizer)");
  }

  // As a piece of words it stands for bytes; both must be the same text.
  static void check_spelling(const JsonField& content) {
    std::string bytes;
    if (bytes_of_name(content.text(), bytes) && bytes != content.text())
      content.refuse(
          "tokens that are no pieces of other bytes in model.vocab, where they are not "
          "special");
  }

  BytePieceType type_of(std::int32_t id) const {
    return file_.pieces[static_cast<std::size_t>(id)].type;
  }

  // Any text can be encoded, and none becomes a special token.
  void check_bytes() {
    const JsonField vocabulary = root_["model"]["vocab"];
    for (int byte = 0; byte < 256; ++byte) {
      const auto found = ids_.find(name_of_byte(static_cast<std::uint8_t>(byte)));
      if (found == ids_.end() || type_of(found->second) == BytePieceType::special)
        vocabulary[name_of_byte(static_cast<std::uint8_t>(byte))].refuse(
            "a piece, not a special one, for every byte: without that of byte ", byte,
            " some texts could not be encoded");
    }
  }

  // "left right", or ["left", "right"].
  std::pair<std::string_view, std::string_view> halves(const JsonField& merge) const {
    if (merge.value().is_array() && merge.list().size() == 2)
      return {merge[0].text(), merge[1].text()};
    const std::string_view text = merge.text();
    const std::size_t space = text.find(' ');
    if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos)
      merge.refuse("two pieces with a space between");
    return {text.substr(0, space), text.substr(space + 1)};
  }

  std::int32_t normal_piece(std::string_view name, const JsonField& merge) const {
    const auto found = ids_.find(name);
    std::string bytes;
    if (found == ids_.end() || type_of(found->second) == BytePieceType::special ||
        !bytes_of_name(name, bytes))
      merge.refuse("merges of pieces in model.vocab that spell bytes and are not special; ",
                   json(name).dump(), " is none");
    return found->second;
  }

  void read_merges(const JsonField& merges) {
    std::unordered_set<std::uint64_t> seen;
    seen.reserve(merges.list().size());
    file_.merges.reserve(merges.list().size());
    for (std::size_t i = 0; i < merges.list().size(); ++i) {
      const JsonField field = merges[i];
      const auto [left, right] = halves(field);
      const ByteMerge merge{normal_piece(left, field), normal_piece(right, field),
                            normal_piece(str(left, right), field)};
      if (!seen.insert(pair_key(merge.left, merge.right)).second) field.refuse("every merge once");
      file_.merges.push_back(merge);
    }
  }

  const JsonField& root_;
  ByteLevelBpeFile& file_;
  std::unordered_map<std::string_view, std::int32_t> ids_;  // of model.vocab
};

// The bytes of ours in two: what our member says, and the original.
struct Parts {
  json ours;
  std::string original;
};
Parts divide(const std::string& bytes, const FileProblem& problem) {
  const std::size_t end = bytes.find(",\n");
  problem.require(has_end_of_document(bytes) && end != std::string::npos,
                  "it does not begin with a line ", kOurs,
                  "{\"end_of_document\": ID}}, which names the token that ends a document");
  return {parse_json(std::string_view(bytes).substr(kOurs.size(), end - kOurs.size()), problem),
          str("{", std::string_view(bytes).substr(end + 2))};
}

// The text of a JSON file beside the tokenizer, or nothing.
std::string neighbour(const std::filesystem::path& file, const char* name) {
  const std::filesystem::path path = file.parent_path() / name;
  std::error_code error;
  return std::filesystem::is_regular_file(path, error) ? read_file(path) : "";
}

// What it says; of one that is not there, or no object, nothing.
json said_by(const std::filesystem::path& file, const char* name, const std::string& text) {
  if (text.empty()) return json::object();
  json values = parse_json(text, FileProblem("JSON", file.parent_path() / name));
  return values.is_object() ? values : json::object();
}

// Of an eos_token_id, which is an id or a list of them.
json first_of(const json& value) {
  return value.is_array() && !value.empty() ? value.front() : value;
}

struct EndOfDocument {
  json id;
  const char* source = nullptr;
};
EndOfDocument find_end_of_document(const ByteLevelBpeFile& read, const std::filesystem::path& file,
                                   const json& tokenizer_config) {
  for (const char* name : {"config.json", "generation_config.json"}) {
    const json values = said_by(file, name, neighbour(file, name));
    if (const json id = first_of(values.value("eos_token_id", json())); !id.is_null())
      return {id, name};
  }
  const auto id = id_of_token(read, tokenizer_config.value("eos_token", json()));
  return {id ? json(static_cast<std::uint32_t>(*id)) : json(), kTokenizerConfig};
}

// The special token that a post_processor puts before a text, or -1. `processor`: one, or a
// Sequence of them, of which TemplateProcessing adds tokens.
std::int32_t read_begin_of_document(const ByteLevelBpeFile& file, const JsonField& processor) {
  if (processor["type"].value() == "Sequence") {
    const JsonField processors = processor["processors"];
    for (std::size_t i = 0; i < processors.list().size(); ++i)
      if (processors[i]["type"].value() == "TemplateProcessing")
        return read_begin_of_document(file, processors[i]);
  }
  if (processor["type"].value() != "TemplateProcessing") return -1;
  const JsonField parts = processor["single"];
  if (parts.list().empty() || parts[0]["SpecialToken"].value().is_null()) return -1;
  const JsonField name = parts[0]["SpecialToken"]["id"];
  const auto id = id_of_token(file, name.text());
  if (!id || file.pieces[static_cast<std::size_t>(*id)].type != BytePieceType::special)
    name.refuse("tokens that added_tokens calls special");
  return *id;
}

ByteLevelBpeFile read_original(const json& value, const FileProblem& problem) {
  ByteLevelBpeFile file;
  const JsonField root(value, "", problem);
  const JsonField normalizer = root["normalizer"];
  file.normalises = !normalizer.value().is_null();
  if (file.normalises) normalizer["type"].allow({"NFC"});
  file.words = read_pre_tokenizer(root["pre_tokenizer"]);
  ModelReader(root, file).read();
  file.begin_of_document = read_begin_of_document(file, root["post_processor"]);
  return file;
}

void check_end_of_document(const ByteLevelBpeFile& file, const JsonField& end) {
  const BytePiece& piece = file.pieces[static_cast<std::size_t>(end.id(file.pieces.size()))];
  if (piece.type != BytePieceType::special)
    end.refuse("tokens that added_tokens calls special; ", json(piece.name).dump(),
               " is none: a text could contain it");
}

}  // namespace

bool is_tokenizer_json(std::string_view bytes) { return bytes.starts_with('{'); }

bool has_end_of_document(std::string_view bytes) { return bytes.starts_with(kOurs); }

std::string with_end_of_document(std::string bytes, const std::filesystem::path& file) {
  const FileProblem problem("tokenizer", file);
  const ByteLevelBpeFile read = read_original(parse_json(bytes, problem), problem);
  const std::string config = neighbour(file, kTokenizerConfig);
  const EndOfDocument end =
      find_end_of_document(read, file, said_by(file, kTokenizerConfig, config));
  problem.require(!end.id.is_null(),
                  "nothing beside it says which of its tokens ends a document; put a config.json "
                  "with eos_token_id there, or a tokenizer_config.json with eos_token");
  check_end_of_document(read, {end.id, str("the end of a document by ", end.source), problem});
  json ours = {{"end_of_document", end.id}};
  if (!config.empty()) ours["tokenizer_config"] = config;
  return str(kOurs, ours.dump(), ",\n", std::string_view(bytes).substr(1));
}

std::string without_end_of_document(const std::string& bytes) {
  return divide(bytes, FileProblem("tokenizer", "of the run")).original;
}

ByteLevelBpeFile parse_byte_level_bpe(const std::string& bytes, const std::string& origin) {
  const FileProblem problem("tokenizer", origin);
  Parts parts = divide(bytes, problem);
  ByteLevelBpeFile file = read_original(parse_json(parts.original, problem), problem);
  const JsonField ours(parts.ours, "filigree", problem);
  check_end_of_document(file, ours["end_of_document"]);
  file.end_of_document = ours["end_of_document"].id(file.pieces.size());
  if (!ours["tokenizer_config"].value().is_null()) {
    file.tokenizer_config = ours["tokenizer_config"].text();
    parse_json(file.tokenizer_config, problem);  // so that nobody who reads it need look again
  }
  return file;
}

json token_setting(const ByteLevelBpeFile& file, const std::string& key) {
  const json values = json::parse(file.tokenizer_config, nullptr, false);
  return values.is_object() ? values.value(key, json()) : json();
}

std::optional<std::int32_t> id_of_token(const ByteLevelBpeFile& file, const json& token) {
  const json name = token.is_object() ? token.value("content", json()) : token;
  for (std::size_t id = 0; id < file.pieces.size(); ++id)
    if (name == file.pieces[id].name) return static_cast<std::int32_t>(id);
  return std::nullopt;
}

}  // namespace filigree
