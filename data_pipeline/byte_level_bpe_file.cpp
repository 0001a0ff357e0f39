#include "data_pipeline/byte_level_bpe_file.hpp"

#include <array>
#include <initializer_list>
#include <optional>
#include <set>
#include <system_error>
#include <unordered_map>
#include <unordered_set>

#include "data_pipeline/utf8.hpp"
#include "runtime/storage/atomic_file.hpp"
#include "runtime/storage/file_problem.hpp"

namespace filigree {
namespace {

using nlohmann::json;

constexpr std::array<PreTokenizer, 3> kPreTokenizers = {{
    {"gpt-2", R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"},
    {"llama-bpe",
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
    {"qwen2",
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
}};

constexpr std::string_view kOurs = "{\"filigree\": ";
constexpr std::int64_t kMostBytes = std::int64_t{1} << 28;
constexpr int kDeepest = 64;  // what walks over JSON calls itself

json parse_json(std::string_view bytes, const FileProblem& problem) {
  problem.require(std::ssize(bytes) <= kMostBytes, "it has ", bytes.size(), " bytes, at most ",
                  kMostBytes, " are read");
  try {
    return json::parse(bytes, [&](int depth, json::parse_event_t, const json&) {
      problem.require(depth <= kDeepest, "it is nested more than ", kDeepest, " deep");
      return true;
    });
  } catch (const json::exception& error) {
    problem.fail("it is damaged or no JSON: ", error.what());
  }
}

// A value of the file and where it stands: "model.vocab".
class Field {
 public:
  Field(const json& value, std::string path, const FileProblem& problem)
      : value_(&value), path_(std::move(path)), problem_(&problem) {}

  // Null where it is absent, or where this is no object.
  Field operator[](const std::string& key) const {
    static const json absent;
    const auto found = value_->is_object() ? value_->find(key) : value_->end();
    return {value_->is_object() && found != value_->end() ? *found : absent,
            path_.empty() ? key : path_ + "." + key, *problem_};
  }
  Field operator[](std::size_t index) const {
    return {(*value_)[index], str(path_, "[", index, "]"), *problem_};
  }

  const json& value() const { return *value_; }
  const std::string& path() const { return path_; }

  template <class... Allowed>
  [[noreturn]] void refuse(const Allowed&... allowed) const {
    std::string shown = value_->is_null() ? "absent" : value_->dump();
    if (shown.size() > 200) shown = shown.substr(0, 200) + " ...";
    problem_->fail(path_, " = ", shown, "; allowed: ", allowed...);
  }
  // One of these; a null stands for absence too.
  void allow(std::initializer_list<json> allowed, std::string_view hint = "") const {
    std::string listed;
    for (const json& one : allowed) {
      if (*value_ == one) return;
      listed += (listed.empty() ? "" : ", ") + (one.is_null() ? "absent" : one.dump());
    }
    refuse(listed, hint);
  }
  bool flag(bool absent) const {
    if (value_->is_null()) return absent;
    if (!value_->is_boolean()) refuse("true, false");
    return value_->get<bool>();
  }
  const std::string& text() const {
    if (!value_->is_string()) refuse("a text");
    const auto& text = value_->get_ref<const std::string&>();
    if (text.empty()) refuse("a text that is not empty");
    return text;
  }
  std::int32_t id(std::size_t ids) const {
    if (!value_->is_number_unsigned() || value_->get<std::uint64_t>() >= ids)
      refuse("ids from 0 to ", ids - 1, ", as many as there are pieces, without gaps");
    return static_cast<std::int32_t>(value_->get<std::uint64_t>());
  }
  const json::array_t& list() const {
    if (!value_->is_array()) refuse("a list");
    return value_->get_ref<const json::array_t&>();
  }
  const json::object_t& object() const {
    if (!value_->is_object()) refuse("an object");
    return value_->get_ref<const json::object_t&>();
  }

 private:
  const json* value_;
  std::string path_;
  const FileProblem* problem_;
};

// `cuts`: whether it shall cut words by itself, by GPT-2's expression.
void check_byte_level(const Field& field, bool cuts) {
  field["type"].allow({"ByteLevel"});
  field["add_prefix_space"].allow({false}, " (a space before every text would change it)");
  if (field["use_regex"].flag(true) != cuts) field["use_regex"].refuse(cuts ? "true" : "false");
}

PreTokenizer split_pattern(const Field& field) {
  field["type"].allow({"Split"});
  field["behavior"].allow({"Isolated"});
  field["invert"].allow({nullptr, false});
  const std::string& pattern = field["pattern"]["Regex"].text();
  for (const PreTokenizer& known : kPreTokenizers)
    if (pattern == known.pattern) return known;
  field["pattern"]["Regex"].refuse("the expressions of GPT-2, Llama 3 and Qwen2");
}

PreTokenizer read_pre_tokenizer(const Field& field) {
  if (field["type"].value() != "Sequence") {
    field["type"].allow({"ByteLevel", "Sequence"});
    check_byte_level(field, true);
    return kPreTokenizers[0];
  }
  const Field list = field["pretokenizers"];
  if (list.list().size() != 2) list.refuse("a Split and a ByteLevel");
  check_byte_level(list[1], false);
  return split_pattern(list[0]);
}

// Reads model and added_tokens; what each function needs of the ones before is in its fields.
class ModelReader {
 public:
  ModelReader(const Field& root, ByteLevelBpeFile& file) : root_(root), file_(file) {}

  void read() {
    check_kind(root_["model"]);
    read_vocabulary(root_["model"]["vocab"]);
    read_added(root_["added_tokens"]);
    check_bytes();
    read_merges(root_["model"]["merges"]);
  }

 private:
  void check_kind(const Field& model) {
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
  std::size_t count_pieces(const Field& vocabulary) {
    std::unordered_set<std::string_view> added;
    const Field list = root_["added_tokens"];
    if (!list.value().is_null())
      for (std::size_t i = 0; i < list.list().size(); ++i)
        if (const std::string& content = list[i]["content"].text();
            !vocabulary.object().contains(content) && !added.insert(content).second)
          list[i]["content"].refuse("every token once");
    return vocabulary.object().size() + added.size();
  }

  void give(std::int32_t id, const Field& field, const std::string& name, BytePieceType type) {
    BytePiece& piece = file_.pieces[static_cast<std::size_t>(id)];
    if (!piece.name.empty() && piece.name != name)
      field.refuse("ids of one piece each; ", json(piece.name).dump(), " has this one too");
    piece = {name, type};
  }

  void read_vocabulary(const Field& vocabulary) {
    file_.pieces.resize(count_pieces(vocabulary));
    for (const auto& [name, value] : vocabulary.object()) {
      const Field field = vocabulary[name];
      if (name.empty()) vocabulary.refuse("names that are not empty");
      const std::int32_t id = field.id(file_.pieces.size());
      give(id, field, name, BytePieceType::normal);
      ids_.emplace(name, id);
    }
  }

  void read_added(const Field& added) {
    if (added.value().is_null()) return;
    for (std::size_t i = 0; i < added.list().size(); ++i) {
      const Field token = added[i];
      const std::string& content = token["content"].text();
      const bool special = token["special"].flag(false);
      const auto known = ids_.find(content);
      const std::int32_t id = token["id"].id(file_.pieces.size());
      if (known != ids_.end() && known->second != id)
        token["id"].refuse(known->second, ", which model.vocab gives to ", json(content).dump());
      give(id, token["id"], content, special ? BytePieceType::special : BytePieceType::literal);
      if (!special) check_literal(token);
    }
  }

  // It is looked for in the text as it is given.
  void check_literal(const Field& token) {
    for (const char* key : {"single_word", "lstrip", "rstrip"})
      token[key].allow({nullptr, false}, " (of tokens that are not special)");
    if (file_.normalises)
      token["normalized"].allow({false}, " (of tokens that are not special, with a normalizer)");
  }

  BytePieceType type_of(std::int32_t id) const {
    return file_.pieces[static_cast<std::size_t>(id)].type;
  }

  // Any text can be encoded, and none becomes a special token.
  void check_bytes() {
    const Field vocabulary = root_["model"]["vocab"];
    for (int byte = 0; byte < 256; ++byte) {
      const auto found = ids_.find(name_of_byte(static_cast<std::uint8_t>(byte)));
      if (found == ids_.end() || type_of(found->second) == BytePieceType::special)
        vocabulary[name_of_byte(static_cast<std::uint8_t>(byte))].refuse(
            "a piece, not a special one, for every byte: without that of byte ", byte,
            " some texts could not be encoded");
    }
  }

  // "left right", or ["left", "right"].
  std::pair<std::string_view, std::string_view> halves(const Field& merge) const {
    if (merge.value().is_array() && merge.list().size() == 2)
      return {merge[0].text(), merge[1].text()};
    const std::string_view text = merge.text();
    const std::size_t space = text.find(' ');
    if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos)
      merge.refuse("two pieces with a space between");
    return {text.substr(0, space), text.substr(space + 1)};
  }

  std::int32_t normal_piece(std::string_view name, const Field& merge) const {
    const auto found = ids_.find(name);
    if (found == ids_.end() || type_of(found->second) == BytePieceType::special)
      merge.refuse("merges of pieces in model.vocab that are not special; ",
                   json(std::string(name)).dump(), " is none");
    return found->second;
  }

  void read_merges(const Field& merges) {
    std::set<std::pair<std::int32_t, std::int32_t>> seen;
    file_.merges.reserve(merges.list().size());
    for (std::size_t i = 0; i < merges.list().size(); ++i) {
      const Field field = merges[i];
      const auto [left, right] = halves(field);
      const ByteMerge merge{normal_piece(left, field), normal_piece(right, field),
                            normal_piece(str(left, right), field)};
      if (!seen.emplace(merge.left, merge.right).second) field.refuse("every merge once");
      file_.merges.push_back(merge);
    }
  }

  const Field& root_;
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
          "{" + bytes.substr(end + 2)};
}

// A JSON file beside the tokenizer, or null.
json neighbour(const std::filesystem::path& file, const char* name) {
  const std::filesystem::path path = file.parent_path() / name;
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return nullptr;
  return parse_json(read_file(path, kMostBytes), FileProblem("JSON", path));
}

std::optional<std::int32_t> id_of(const std::vector<BytePiece>& pieces, const json& name) {
  for (std::size_t id = 0; id < pieces.size(); ++id)
    if (name == pieces[id].name) return static_cast<std::int32_t>(id);
  return std::nullopt;
}

// What an eos_token_id says: an id, or the first of a list.
json first_of(const json& value) {
  return value.is_array() && !value.empty() ? value.front() : value;
}

ByteLevelBpeFile read_original(const json& value, const FileProblem& problem) {
  ByteLevelBpeFile file;
  const Field root(value, "", problem);
  const Field normalizer = root["normalizer"];
  file.normalises = !normalizer.value().is_null();
  if (file.normalises) normalizer["type"].allow({"NFC"});
  file.pre_tokenizer = read_pre_tokenizer(root["pre_tokenizer"]);
  ModelReader(root, file).read();
  return file;
}

void check_end_of_document(const ByteLevelBpeFile& file, std::int64_t end,
                           const FileProblem& problem, std::string_view source) {
  problem.require(end >= 0 && end < std::ssize(file.pieces), source, " ends documents with id ",
                  end, "; there are ids 0 to ", std::ssize(file.pieces) - 1);
  const BytePiece& piece = file.pieces[static_cast<std::size_t>(end)];
  problem.require(piece.type == BytePieceType::special, source, " ends documents with ",
                  json(piece.name).dump(),
                  ", which is no special token: a text could contain it; allowed: tokens that "
                  "added_tokens calls special");
}

}  // namespace

bool is_tokenizer_json(std::string_view bytes) { return bytes.starts_with('{'); }

bool has_end_of_document(std::string_view bytes) { return bytes.starts_with(kOurs); }

std::string with_end_of_document(std::string bytes, const std::filesystem::path& file) {
  const FileProblem problem("tokenizer", file);
  const ByteLevelBpeFile read = read_original(parse_json(bytes, problem), problem);
  json ours = {{"end_of_document", nullptr}};
  std::string source = "tokenizer_config.json";
  json config = neighbour(file, source.c_str());
  if (config.is_object()) {
    ours["tokenizer_config"] = config;
    const json token = config.value("eos_token", json());  // a text, or an object with its content
    const json name = token.is_object() ? token.value("content", json()) : token;
    if (const auto id = id_of(read.pieces, name)) ours["end_of_document"] = *id;
  }
  for (const char* other : {"generation_config.json", "config.json"}) {
    if (!ours["end_of_document"].is_null()) break;
    const json values = neighbour(file, other);
    if (!values.is_object()) continue;
    ours["end_of_document"] = first_of(values.value("eos_token_id", json()));
    source = other;
  }
  problem.require(ours["end_of_document"].is_number_unsigned() &&
                      ours["end_of_document"].get<std::uint64_t>() < read.pieces.size(),
                  "nothing beside it says which of its tokens ends a document; put a "
                  "tokenizer_config.json with eos_token there, or a config.json with eos_token_id");
  check_end_of_document(read, ours["end_of_document"].get<std::int64_t>(), problem, source);
  return str(kOurs, ours.dump(), ",\n", std::string_view(bytes).substr(1));
}

std::string without_end_of_document(const std::string& bytes) {
  return divide(bytes, FileProblem("tokenizer", "of the run")).original;
}

ByteLevelBpeFile parse_byte_level_bpe(const std::string& bytes, const std::string& origin) {
  const FileProblem problem("tokenizer", origin);
  Parts parts = divide(bytes, problem);
  ByteLevelBpeFile file = read_original(parse_json(parts.original, problem), problem);
  const Field ours(parts.ours, "filigree", problem);
  file.end_of_document = ours["end_of_document"].id(file.pieces.size());
  check_end_of_document(file, file.end_of_document, problem, "filigree.end_of_document");
  file.tokenizer_config = ours["tokenizer_config"].value();
  return file;
}

namespace {

// GPT-2's bytes_to_unicode: bytes that print are their own character, the others those from U+0100
// on, in their order.
std::array<char32_t, 256> byte_characters() {
  std::array<char32_t, 256> characters{};
  char32_t next = 0x100;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool prints = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    characters[byte] = prints ? byte : next++;
  }
  return characters;
}

}  // namespace

std::string name_of_byte(std::uint8_t byte) {
  static const std::array<char32_t, 256> characters = byte_characters();
  const char32_t code = characters[byte];
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
}

bool bytes_of_name(std::string_view name, std::string& bytes) {
  static const auto values = [] {
    std::unordered_map<std::string, char> result;
    for (int byte = 0; byte < 256; ++byte)
      result.emplace(name_of_byte(static_cast<std::uint8_t>(byte)), static_cast<char>(byte));
    return result;
  }();
  bytes.clear();
  while (!name.empty()) {
    const std::size_t length = utf8_character(name);
    const auto found = values.find(std::string(name.substr(0, length)));
    if (length == 0 || found == values.end()) return false;
    bytes += found->second;
    name.remove_prefix(length);
  }
  return true;
}

}  // namespace filigree
