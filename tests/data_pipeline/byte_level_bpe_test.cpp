// Byte-level BPE from a tokenizer.json. Vocabularies are small enough to derive ids by hand;
// tests/interop compares with the tokenizers package.
#include "data_pipeline/byte_level_bpe_file.hpp"

#include <nlohmann/json.hpp>

#include <random>

#include "data_pipeline/tokenizer.hpp"
#include "data_pipeline/utf8.hpp"
#include "tests/data_pipeline/byte_level_fixture.hpp"
#include "tests/data_pipeline/test_support.hpp"

namespace filigree {
namespace {

using nlohmann::json;
using test::byte_level_json;
using test::kSplitPatterns;
using test::mentions;
using test::user_error;

class ByteLevelBpe : public testing::FolderTest {
 protected:
  Tokenizer load(const json& file, const json& config = {{"eos_token", "<|end|>"}}) const {
    write("tokenizer_config.json", config.dump());
    return Tokenizer::load(write("tokenizer.json", file.dump()));
  }
  // The pieces of a text, with "|" between.
  static std::string pieces(const Tokenizer& tokenizer, std::string_view text) {
    std::string joined;
    for (const std::int32_t id : tokenizer.encode(text))
      joined += (joined.empty() ? "" : "|") + tokenizer.piece(id);
    return joined;
  }
  std::string refusal(const json& file, const json& config = {{"eos_token", "<|end|>"}}) const {
    const std::string error = user_error([&] { load(file, config); });
    EXPECT_EQ(error.find('\n'), std::string::npos) << error;
    return error;
  }
};

TEST_F(ByteLevelBpe, ThePairThatStandsFirstIsJoinedFirst) {
  // By rank: "bc" before "ab", so that "abc" is a|bc; "abab" has two of the second.
  const Tokenizer tokenizer = load(byte_level_json({"b c", "a b", "ab ab"}));
  EXPECT_EQ(pieces(tokenizer, "abc"), "a|bc");
  EXPECT_EQ(pieces(tokenizer, "abab"), "abab");
  EXPECT_EQ(pieces(tokenizer, "ababc"), "ab|a|bc");
  EXPECT_EQ(pieces(tokenizer, "ababab"), "abab|ab");  // of equals the leftmost
  EXPECT_EQ(tokenizer.encode("abab"), (std::vector<std::int32_t>{258}));
}

TEST_F(ByteLevelBpe, OfOverlappingEqualsTheLeftmostIsJoined) {
  const Tokenizer tokenizer = load(byte_level_json({"a a", "aa a"}));
  EXPECT_EQ(pieces(tokenizer, "aaaaa"), "aa|aaa");
  EXPECT_EQ(pieces(tokenizer, "aaaa"), "aa|aa");
}

TEST_F(ByteLevelBpe, MergesMayBePairs) {
  json file = byte_level_json({"b c", "a bc"});
  file["model"]["merges"] = json::array({json::array({"b", "c"}), json::array({"a", "bc"})});
  EXPECT_EQ(pieces(load(file), "abc"), "abc");
}

TEST_F(ByteLevelBpe, AWholeWordIsItsPieceWhereMergesAreIgnored) {
  // No merge makes "xyz": only as a whole word it is found.
  json file = byte_level_json({"x y"}, {"xyz"});
  EXPECT_EQ(pieces(load(file), "xyz xyzx"), "xy|z| |xy|z|x");
  file["model"]["ignore_merges"] = true;
  EXPECT_EQ(pieces(load(file), "xyz"), "xyz");
  EXPECT_EQ(pieces(load(file), "xyz xyzx"), "xyz| |xy|z|x");
  // A token that is looked for in the text is no word, though its name spells one.
  file["added_tokens"].push_back({{"id", 259}, {"content", "Ġq"}, {"special", false}});
  EXPECT_EQ(pieces(load(file), " q Ġq"), " |q| |Ġq");
}

// Words in which every byte has a merge with its neighbour show where words end: pieces are words.
TEST_F(ByteLevelBpe, WordsAreThoseOfTheExpression) {
  struct Case {
    std::string text, gpt2, llama3, qwen2;
  };
  // The pieces are single bytes except within runs that have merges; what matters is what is not
  // joined across a boundary.
  std::vector<std::string> merges{"Ġ a",  "' S", "1 2", "12 3", "123 4", ". .",
                                  ".. Ċ", "Ġ Ġ", "Ċ Ċ", "Ġ Ċ",  "a b",   ". a"};
  const Tokenizer gpt2 = load(byte_level_json(merges, {}, "gpt-2"));
  const Tokenizer llama3 = load(byte_level_json(merges, {}, "llama-bpe"));
  const Tokenizer qwen2 = load(byte_level_json(merges, {}, "qwen2"));
  const std::vector<Case> cases{
      {"a a", "a| a", "a| a", "a| a"},
      // All spaces but the last before a letter: that one belongs to the letter's word.
      {"a   a", "a|  | a", "a|  | a", "a|  | a"},
      {"a   ", "a|  | ", "a|  | ", "a|  | "},
      {"a'S", "a|'|S", "a|'S", "a|'S"},  // contractions of capitals: not in GPT-2's
      {"1234", "1234", "123|4", "1|2|3|4"},
      {"..\n", "..|\n", "..\n", "..\n"},
      {".a", ".|a", ".a", ".a"},
      {"\n\na", "\n|\n|a", "\n\n|a", "\n\n|a"},
      {" \na", " |\n|a", " \n|a", " \n|a"},
      {"ab\n", "ab|\n", "ab|\n", "ab|\n"},
  };
  for (const Case& one : cases) {
    EXPECT_EQ(pieces(gpt2, one.text), one.gpt2) << json(one.text);
    EXPECT_EQ(pieces(llama3, one.text), one.llama3) << json(one.text);
    EXPECT_EQ(pieces(qwen2, one.text), one.qwen2) << json(one.text);
  }
}

TEST_F(ByteLevelBpe, LettersAndNumbersAreThoseOfUnicode) {
  // "é" and "д" are letters, "²" and "Ⅷ" numbers, U+00A0 a space, U+0301 none of these.
  const std::string e = "\xC3\xA9", two = "\xC2\xB2", space = "\xC2\xA0", mark = "\xCC\x81";
  const Tokenizer tokenizer =
      load(byte_level_json({"Ã ©", "Â ²", "Ã© a", "Â² a", "Â ł", "Âł a", "Ì ģ", "a Ìģ"}));
  EXPECT_EQ(pieces(tokenizer, e + "a"), e + "a");
  EXPECT_EQ(pieces(tokenizer, two + "a"), two + "|a");
  EXPECT_EQ(pieces(tokenizer, space + "a"), space + "a");  // any one character before letters
  EXPECT_EQ(pieces(tokenizer, "a" + mark), "a|" + mark);
}

TEST_F(ByteLevelBpe, TextComesBack) {
  for (const auto& [name, pattern] : kSplitPatterns) {
    const Tokenizer tokenizer = load(byte_level_json({"Ġ t", "h e", "Ġt he"}, {}, name));
    for (const std::string text :
         {"", " ", "the  the\n\n \r\n\tthe", "\xE6\xBC\xA2\xF0\x9F\x98\x80 e\xCC\x81", "<|end|>",
          "\xE2\x96\x81", "don't DON'T", "1234567890 \xC2\xA0x"})
      EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  }
}

TEST_F(ByteLevelBpe, NfcIsAppliedWhereTheFileSaysSo) {
  json file = byte_level_json({}, {}, "qwen2");
  const std::string decomposed = "e\xCC\x81 o\xCC\xA3\xCC\x82 \xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8",
                    composed = "\xC3\xA9 \xE1\xBB\x99 \xEA\xB0\x81";
  EXPECT_EQ(load(file).decode(load(file).encode(decomposed)), decomposed);
  file["normalizer"] = {{"type", "NFC"}};
  const Tokenizer tokenizer = load(file);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(decomposed)), composed);
  EXPECT_EQ(tokenizer.encode(decomposed), tokenizer.encode(composed));
}

TEST_F(ByteLevelBpe, SpecialTokensAreNeverMadeFromText) {
  const Tokenizer tokenizer = load(byte_level_json({"< |"}));
  const std::int32_t end = tokenizer.end_of_document();
  EXPECT_EQ(tokenizer.vocabulary(), 258);
  EXPECT_EQ(end, 257);
  EXPECT_EQ(tokenizer.piece(end), "<|end|>");
  EXPECT_EQ(pieces(tokenizer, "<|end|>"), "<||e|n|d|||>");
  EXPECT_EQ(tokenizer.decode(std::vector<std::int32_t>{'a' - '!', end, 1000}), "a");
}

TEST_F(ByteLevelBpe, AddedTokensThatAreNotSpecialAreText) {
  json file = byte_level_json({"Ġ Ġ"});
  const auto add = [&](const std::string& content) {
    file["added_tokens"].push_back({{"id", 258 + file["added_tokens"].size() - 1},
                                    {"content", content},
                                    {"special", false},
                                    {"normalized", false}});
  };
  add("<x>");
  add("<x><y>");
  add("<y><x>");
  const Tokenizer tokenizer = load(file);
  // The longest at the leftmost place, and words end there: both spaces are before a letter no
  // more.
  EXPECT_EQ(pieces(tokenizer, "  <x>a"), "  |<x>|a");
  EXPECT_EQ(pieces(tokenizer, "<x><y><x>"), "<x><y>|<x>");
  EXPECT_EQ(pieces(tokenizer, "<x><y"), "<x>|<|y");
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("a<x><x><y> <x")), "a<x><x><y> <x");
}

std::string random_text(std::mt19937& random, std::size_t length) {
  static const std::vector<std::string> kParts{"a",
                                               "b",
                                               "ab",
                                               " ",
                                               "  ",
                                               "\n",
                                               "\r\n",
                                               "\t",
                                               "1",
                                               "23",
                                               "'",
                                               "'S",
                                               "'ll",
                                               ".",
                                               "!?",
                                               "<x>",
                                               "<x",
                                               "e\xCC\x81",
                                               "\xCC\xA3",
                                               "\xE6\xBC\xA2",
                                               "\xF0\x9F\x98\x80",
                                               "\xC2\xA0",
                                               "\xE1\x84\x80",
                                               "\xE1\x85\xA1",
                                               "\xC3\xA9",
                                               "\xC2\xB2",
                                               "\xE2\x80\xA8"};
  std::string text;
  while (text.size() < length) text += kParts[random() % kParts.size()];
  return text;
}

std::vector<std::int32_t> streamed(const Tokenizer& tokenizer, std::string_view text,
                                   std::mt19937& random, std::size_t longest) {
  StreamEncoder encoder(tokenizer);
  std::vector<std::int32_t> ids;
  while (!text.empty()) {
    std::string_view part = text.substr(0, 1 + random() % longest);
    if (part.size() < text.size()) part.remove_suffix(utf8_incomplete_suffix(part));
    if (part.empty()) part = text.substr(0, utf8_character(text));
    encoder.push(part, ids);
    text.remove_prefix(part.size());
  }
  encoder.finish(ids);
  return ids;
}

TEST_F(ByteLevelBpe, IdsDoNotDependOnWherePartsEnd) {
  std::mt19937 random(5);
  for (const auto& [name, pattern] : kSplitPatterns) {
    for (const bool nfc : {false, true}) {
      json file = byte_level_json({"a b", "Ġ Ġ", "Ċ Ċ", "č Ċ", "Ġ ab", "' S", "1 2", "2 3", "Ã ©"},
                                  {}, name);
      if (nfc) file["normalizer"] = {{"type", "NFC"}};
      file["added_tokens"].push_back(
          {{"id", 256 + 9 + 1}, {"content", "<x>"}, {"special", false}, {"normalized", false}});
      const Tokenizer tokenizer = load(file);
      for (int round = 0; round < 150; ++round) {
        const std::string text = random_text(random, 1 + random() % 80);
        const std::vector<std::int32_t> whole = tokenizer.encode(text);
        for (const std::size_t longest : {1, 3, 17})
          ASSERT_EQ(streamed(tokenizer, text, random, longest), whole) << name << json(text);
        if (!nfc) {
          ASSERT_EQ(tokenizer.decode(whole), text);
        }
      }
    }
  }
}

// Runs longer than what is held back: the text is still all there, and its parts do not show.
TEST_F(ByteLevelBpe, EndlessRunsAreDivided) {
  std::mt19937 random(6);
  json file = byte_level_json({"Ġ Ġ", "a a"}, {}, "llama-bpe");
  file["normalizer"] = {{"type", "NFC"}};
  const Tokenizer tokenizer = load(file);
  for (const std::string unit : {" ", "a", "\n", "\xCC\x81", "\xF0\x9D\x90\x80", "."}) {
    std::string text = "x";
    while (text.size() < 300'000) text += unit;
    text += "y";
    const std::vector<std::int32_t> whole = tokenizer.encode(text);
    EXPECT_TRUE(tokenizer.decode(whole) == text) << json(unit);
    for (const std::size_t longest : {1000u, 70'000u, 200'000u})
      EXPECT_TRUE(streamed(tokenizer, text, random, longest) == whole) << json(unit);
  }
}

TEST_F(ByteLevelBpe, TheEndOfADocumentIsWhatTheNeighboursSay) {
  json file = byte_level_json({});
  file["added_tokens"].push_back({{"id", 257}, {"content", "<|turn|>"}, {"special", true}});
  EXPECT_EQ(load(file).end_of_document(), 256);
  EXPECT_EQ(load(file, {{"eos_token", {{"content", "<|turn|>"}}}}).end_of_document(), 257);
  write("generation_config.json", json{{"eos_token_id", {257, 256}}}.dump());
  EXPECT_EQ(load(file).end_of_document(), 257);  // tokenizer_config.json comes last
  write("config.json", json{{"eos_token_id", 256}}.dump());
  EXPECT_EQ(load(file).end_of_document(), 256);
  write("config.json", json{{"eos_token_id", nullptr}}.dump());
  EXPECT_EQ(load(file).end_of_document(), 257);
  for (const json& wrong : {json(99), json(258), json(-1), json("<|end|>"), json(1.5)}) {
    write("config.json", json{{"eos_token_id", wrong}}.dump());
    EXPECT_TRUE(mentions(refusal(file), {"tokenizer.json", "config.json", "allowed"})) << wrong;
  }
  write("config.json", "{");
  EXPECT_TRUE(mentions(refusal(file), {"config.json", "no JSON"}));
  write("config.json", "{}");
  write("generation_config.json", "[]");
  EXPECT_TRUE(
      mentions(refusal(file, json::object()), {"tokenizer.json", "which of its tokens ends"}));
  EXPECT_TRUE(mentions(refusal(file, {{"eos_token", "!"}}), {"special"}));
}

// What a run keeps is one file, in which the end of a document stands and the original can be
// found.
TEST_F(ByteLevelBpe, ADocumentBeginsWithWhatThePostProcessorPutsBeforeIt) {
  json file = byte_level_json({});
  EXPECT_FALSE(load(file).begins_documents());
  const std::size_t begin = file["added_tokens"].size() + file["model"]["vocab"].size();
  file["added_tokens"].push_back({{"id", begin}, {"content", "<|begin|>"}, {"special", true}});
  const json text = {{"Sequence", {{"id", "A"}}}};
  const auto with = [&](const json& single) {
    json changed = file;
    changed["post_processor"] = {
        {"type", "Sequence"},
        {"processors", json::array({{{"type", "ByteLevel"}},
                                    {{"type", "TemplateProcessing"}, {"single", single}}})}};
    return changed;
  };
  const auto token = [](const char* id) -> json { return {{"SpecialToken", {{"id", id}}}}; };
  EXPECT_EQ(load(with({token("<|begin|>"), text})).begin_of_document(),
            static_cast<std::int32_t>(begin));
  EXPECT_FALSE(load(with({text, token("<|end|>")})).begins_documents());
  for (const char* name : {"a", "none"})
    EXPECT_TRUE(mentions(refusal(with({token(name), text})),
                         {"post_processor.processors[1].single[0].SpecialToken.id", name}));
}

TEST_F(ByteLevelBpe, TheBytesAreAFileOfTheirOwn) {
  const std::string original = byte_level_json({"a b"}).dump(2);
  const std::string config = "{\"eos_token\": \"<|end|>\",\n \"chat_template\": \"a,\\nb\"}\n";
  write("tokenizer_config.json", config);
  const Tokenizer tokenizer = Tokenizer::load(write("tokenizer.json", original));
  const Tokenizer alone = Tokenizer::load(write("elsewhere/tokenizer.model", tokenizer.bytes()));
  EXPECT_EQ(alone.hash(), tokenizer.hash());
  EXPECT_EQ(alone.bytes(), tokenizer.bytes());
  EXPECT_EQ(alone.end_of_document(), tokenizer.end_of_document());
  EXPECT_EQ(alone.encode("abba"), tokenizer.encode("abba"));
  EXPECT_EQ(without_end_of_document(tokenizer.bytes()), original);
  EXPECT_EQ(parse_byte_level_bpe(tokenizer.bytes(), "test").tokenizer_config, config);
  EXPECT_EQ(json::parse(tokenizer.bytes())["filigree"]["end_of_document"], 257);
}

TEST_F(ByteLevelBpe, WhatIsNotUsedByTheseModelsIsRefusedByName) {
  struct Case {
    std::string where;
    json value;
    std::vector<std::string> words;
  };
  const json split = byte_level_json({}, {}, "qwen2")["pre_tokenizer"];
  json other_pattern = split, joined = split, both_cut = split, prefix = split, three = split;
  other_pattern["pretokenizers"][0]["pattern"]["Regex"] = "a|.\n";
  joined["pretokenizers"][0]["behavior"] = "MergedWithNext";
  both_cut["pretokenizers"][1]["use_regex"] = true;
  prefix["pretokenizers"][1]["add_prefix_space"] = true;
  three["pretokenizers"].push_back(split["pretokenizers"][0]);
  const std::vector<Case> cases{
      {"/model/type", "WordPiece", {"model.type", "WordPiece", "BPE"}},
      {"/model/byte_fallback", true, {"model.byte_fallback", "tokenizer.model"}},
      {"/model/dropout", 0.1, {"model.dropout", "0.1"}},
      {"/model/end_of_word_suffix", "</w>", {"model.end_of_word_suffix", "</w>"}},
      {"/model/ignore_merges", "yes", {"model.ignore_merges", "true, false"}},
      {"/normalizer", {{"type", "NFKC"}}, {"normalizer.type", "NFKC", "NFC"}},
      {"/decoder", {{"type", "Metaspace"}}, {"decoder.type", "Metaspace", "ByteLevel"}},
      {"/decoder", nullptr, {"decoder.type", "absent", "ByteLevel"}},
      {"/pre_tokenizer", nullptr, {"pre_tokenizer.type", "absent"}},
      {"/pre_tokenizer", {{"type", "Whitespace"}}, {"pre_tokenizer.type", "Whitespace"}},
      {"/pre_tokenizer",
       {{"type", "ByteLevel"}, {"add_prefix_space", true}},
       {"pre_tokenizer.add_prefix_space", "true"}},
      {"/pre_tokenizer",
       {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}},
       {"pre_tokenizer.use_regex"}},
      {"/pre_tokenizer", other_pattern, {"pretokenizers[0].pattern.Regex", "without \".\\n\""}},
      {"/pre_tokenizer", joined, {"pretokenizers[0].behavior", "MergedWithNext", "Isolated"}},
      {"/pre_tokenizer", both_cut, {"pretokenizers[1].use_regex"}},
      {"/pre_tokenizer", prefix, {"pretokenizers[1].add_prefix_space"}},
      {"/pre_tokenizer", three, {"pre_tokenizer.pretokenizers", "Split"}},
  };
  for (const Case& one : cases) {
    json file = byte_level_json({});
    file[json::json_pointer(one.where)] = one.value;
    const std::string error = refusal(file);
    EXPECT_TRUE(mentions(error, {"tokenizer.json", "allowed"})) << one.where;
    for (const std::string& word : one.words) EXPECT_TRUE(mentions(error, {word})) << one.where;
  }
}

TEST_F(ByteLevelBpe, PiecesIdsAndMergesMustFit) {
  const json good = byte_level_json({"a b"});
  const auto refused = [&](const json& patch, std::initializer_list<std::string> words) {
    EXPECT_TRUE(mentions(refusal(good.patch(patch)), words)) << patch;
  };
  const auto set = [](const char* path, const json& value) {
    return json::array({{{"op", "add"}, {"path", path}, {"value", value}}});
  };
  refused(set("/model/vocab/a", 5000), {"model.vocab.a = 5000", "0 to 257"});
  refused(set("/model/vocab/a", -1), {"model.vocab.a = -1"});
  refused(set("/model/vocab/a", 1.5), {"model.vocab.a = 1.5"});
  refused(set("/model/vocab/a", "x"), {"model.vocab.a = \"x\""});
  refused(set("/model/vocab/a", 3), {"model.vocab.", "of one piece each"});
  refused(set("/model/vocab/new", 259), {"259", "without gaps"});
  refused(set("/model/vocab", json::array()), {"model.vocab", "an object"});
  refused(json::array({{{"op", "remove"}, {"path", "/model/vocab/a"}}}), {"without gaps"});
  refused(set("/model/merges/0", "a c"), {"model.merges[0]", "ac"});
  refused(set("/model/merges/0", "a zz"), {"model.merges[0]", "zz"});
  refused(set("/model/merges/0", "ab"), {"model.merges[0]", "a space between"});
  refused(set("/model/merges/0", 7), {"model.merges[0] = 7"});
  refused(set("/model/merges/0", json::array({"a"})), {"model.merges[0]"});
  refused(set("/model/merges/0", "a b"), {"model.merges[1]", "every merge once"});
  refused(set("/model/merges", nullptr), {"model.merges", "a list"});
  refused(set("/added_tokens/0/content", ""), {"added_tokens[0].content"});
  refused(set("/added_tokens/0/id", 0), {"added_tokens[0].id"});
  refused(set("/added_tokens/0/id", 1'000'000), {"added_tokens[0].id = 1000000"});
  refused(set("/added_tokens/1", {{"id", 258}, {"content", "<|end|>"}}), {"every token once"});
  refused(set("/added_tokens/1", {{"id", 5}, {"content", "a"}}), {"added_tokens[1].id = 5"});
  refused(set("/added_tokens/1",
              {{"id", 258}, {"content", "<t>"}, {"special", false}, {"lstrip", true}}),
          {"added_tokens[1].lstrip"});
  refused(set("/added_tokens/1", {{"id", good["model"]["vocab"]["Ġ"]}, {"content", "Ġ"}}),
          {"added_tokens[1].content", "other bytes"});
  // A special token must not come of any text.
  const json a = good["model"]["vocab"]["a"], ab = good["model"]["vocab"]["ab"];
  refused(set("/added_tokens/1", {{"id", a}, {"content", "a"}, {"special", true}}), {"every byte"});
  refused(set("/added_tokens/1", {{"id", ab}, {"content", "ab"}, {"special", true}}),
          {"model.merges[0]", "not special"});
}

TEST_F(ByteLevelBpe, FilesOfStrangersDoNoHarm) {
  const std::string bytes = load(byte_level_json({"a b"})).bytes();
  const auto attempt = [](const std::string& changed) {
    try {
      Tokenizer::from_bytes(changed, "stranger").encode("ab ba");
    } catch (const UserError& error) {
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    }
  };
  for (std::size_t end = 0; end < bytes.size(); end += 7) attempt(bytes.substr(0, end));
  std::mt19937 random(8);
  for (int round = 0; round < 500; ++round) {
    std::string changed = bytes;
    changed[random() % changed.size()] = static_cast<char>(random());
    attempt(changed);
  }
  const std::string ours = bytes.substr(0, bytes.find('\n') + 1);
  EXPECT_TRUE(mentions(user_error([&] { Tokenizer::from_bytes(ours, "stranger"); }), {"stranger"}));
  const std::string large = ours + std::string(std::size_t{1} << 27, ' ');
  EXPECT_TRUE(mentions(user_error([&] { Tokenizer::from_bytes(large, "stranger"); }), {"at most"}));
  const std::string deep = ours + "\"x\": " + std::string(100'000, '[');
  EXPECT_TRUE(mentions(user_error([&] { Tokenizer::from_bytes(deep, "stranger"); }), {"deep"}));
  const std::string config = std::string(100'000, '[') + std::string(100'000, ']');
  const std::string beside = R"({"filigree": {"end_of_document": 257, "tokenizer_config": ")" +
                             config + "\"}" + bytes.substr(bytes.find(",\n"));
  EXPECT_TRUE(mentions(user_error([&] { Tokenizer::from_bytes(beside, "stranger"); }), {"deep"}));
  EXPECT_TRUE(mentions(user_error([&] { Tokenizer::from_bytes("{}", "stranger"); }),
                       {"stranger", "end_of_document"}));
}

}  // namespace
}  // namespace filigree
