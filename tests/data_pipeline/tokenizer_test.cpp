#include "data_pipeline/tokenizer.hpp"

#include <sentencepiece_trainer.h>

#include <array>
#include <random>
#include <unordered_map>

#include "data_pipeline/tokenizer_trainer.hpp"
#include "data_pipeline/utf8.hpp"
#include "tests/data_pipeline/test_support.hpp"

namespace filigree {
namespace {

using test::mentions;
using test::sentence;
using test::user_error;

class TokenizerTest : public testing::FolderTest {};

Tokenizer train(std::int64_t vocabulary, std::int64_t sample_bytes = 1 << 20) {
  TokenizerTrainer trainer({.vocabulary = vocabulary, .sample_bytes = sample_bytes});
  for (std::uint64_t i = 0; i < 500; ++i) trainer.add(sentence(i) + "\n");
  trainer.add("    indented 2024 text\n        more\n");
  return trainer.train();
}

const Tokenizer& small_tokenizer() {
  static const Tokenizer tokenizer = train(350);
  return tokenizer;
}

TEST_F(TokenizerTest, EveryTextComesBack) {
  const std::vector<std::string> texts{
      "", " ", "  ", "\n", "\n\n\n", "\t", "a", " a", "a ", "  a  b  ", "\r\n", "a\n b\n  c\n",
      "tab\tand\t\ttabs", std::string("nul\0inside", 10), "the river", "The quiet mountain.",
      "\xC3\xA9t\xC3\xA9 \xE6\xBC\xA2\xE5\xAD\x97 \xF0\x9F\x98\x80",  // e-acute, CJK, emoji
      "\xE2\x96\x81", "a\xE2\x96\x81 b \xE2\x96\x81\xE2\x96\x81", "\xE2\x96\x85 \xE2\x81\x87",
      "<s>", "</s>", "<unk>", "<0x41>", "<pad>", "\xEF\xBF\xBD", "\xEF\xBB\xBF bom",
      "e\xCC\x81 \xEF\xAC\x81 \xC2\xBD \xC2\xA0 \xE3\x80\x80 \xEF\xBC\xA1",  // what NFKC would
                                                                             // change
      "\xE2\x80\x8B\xE2\x80\x8D\xC2\xAD", "\x01\x02\x7F", "0123456789", "\xF4\x8F\xBF\xBF"};
  for (const std::string& text : texts) {
    const std::vector<std::int32_t> ids = small_tokenizer().encode(text);
    EXPECT_EQ(small_tokenizer().decode(ids), text);
    for (const std::int32_t id : ids) EXPECT_FALSE(small_tokenizer().is_unknown(id)) << text;
  }
}

TEST_F(TokenizerTest, RandomUnicodeComesBack) {
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    std::string text;
    for (int i = 0; i < 40; ++i) {
      const char32_t limits[] = {0x80, 0x80, 0x800, 0x3000, 0x110000};
      const char32_t code = random() % limits[random() % 5];
      if (code >= 0xD800 && code < 0xE000) continue;
      if (code < 0x80) {
        text += static_cast<char>(code);
      } else if (code < 0x800) {
        text += {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 63))};
      } else if (code < 0x10000) {
        text += {static_cast<char>(0xE0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 63)),
                 static_cast<char>(0x80 | (code & 63))};
      } else {
        text += {static_cast<char>(0xF0 | code >> 18), static_cast<char>(0x80 | (code >> 12 & 63)),
                 static_cast<char>(0x80 | (code >> 6 & 63)), static_cast<char>(0x80 | (code & 63))};
      }
    }
    ASSERT_EQ(utf8_valid_prefix(text), text.size());
    ASSERT_EQ(small_tokenizer().decode(small_tokenizer().encode(text)), text);
  }
}

// Segments must not show in the ids: the same words alone and inside a text of several segments.
TEST_F(TokenizerTest, LongTextsEncodeAsTheirLines) {
  for (const char* separator : {"\n", " "}) {
    std::string text;
    std::vector<std::int32_t> by_line;
    for (std::uint64_t i = 0; text.size() < 300'000; ++i) {
      const std::string line = separator[0] == '\n' ? sentence(i) + "\n" : "  " + sentence(i);
      text += line;
      const std::vector<std::int32_t> ids = small_tokenizer().encode(line);
      by_line.insert(by_line.end(), ids.begin(), ids.end());
    }
    EXPECT_TRUE(small_tokenizer().encode(text) == by_line) << "separator '" << separator << "'";
  }
  std::string no_cut;
  while (no_cut.size() < 200'000) no_cut += "\xE6\xBC\xA2";
  EXPECT_EQ(small_tokenizer().decode(small_tokenizer().encode(no_cut)), no_cut);
}

// Encoding word by word must give SentencePiece's own ids.
TEST_F(TokenizerTest, WordByWordIsWhatSentencePieceGivesForTheWhole) {
  sentencepiece::SentencePieceProcessor processor;
  const std::string& model = small_tokenizer().bytes();
  ASSERT_TRUE(processor.LoadFromSerializedProto({model.data(), model.size()}).ok());
  std::mt19937 random(3);
  for (int round = 0; round < 100; ++round) {
    std::string text;
    for (int i = 0; i < 20; ++i) {
      const std::string words = sentence(random());
      text += words.substr(random() % 8, random() % words.size());
      text +=
          std::array{" ", "  ", "\n", " \n", "\n    ", "\t", "", "\xC2\xA0", "12 34"}[random() % 9];
    }
    std::vector<int> expected;
    ASSERT_TRUE(processor.Encode(text, &expected).ok());
    ASSERT_EQ(small_tokenizer().encode(text), expected) << text;
  }
}

TEST_F(TokenizerTest, APieceThatSpansWordsIsStillFound) {
  const auto input = write("corpus.txt", "New York is a city\nthe old New York\n");
  std::string model;
  const std::unordered_map<std::string, std::string> settings{
      {"input", input.string()},
      {"vocab_size", "300"},
      {"model_type", "bpe"},
      {"byte_fallback", "true"},
      {"normalization_rule_name", "identity"},
      {"add_dummy_prefix", "false"},
      {"remove_extra_whitespaces", "false"},
      {"split_by_whitespace", "false"},
      {"minloglevel", "2"},
      {"hard_vocab_limit", "false"}};
  ASSERT_TRUE(sentencepiece::SentencePieceTrainer::Train(settings, nullptr, &model).ok());
  const Tokenizer tokenizer = Tokenizer::from_bytes(model, "spanning.model");
  const std::vector<std::int32_t> ids = tokenizer.encode("New York");
  EXPECT_EQ(ids.size(), 1u);
  EXPECT_EQ(tokenizer.decode(ids), "New York");
  // SentencePiece gives a model a token for the begin of a text unless it is told not to.
  EXPECT_EQ(tokenizer.piece(tokenizer.begin_of_document()), "<s>");
  EXPECT_TRUE(tokenizer.begins_documents());
}

TEST_F(TokenizerTest, DocumentsOfOursBeginBehindTheEndOfTheOneBefore) {
  EXPECT_EQ(small_tokenizer().begin_of_document(), small_tokenizer().end_of_document());
  EXPECT_FALSE(small_tokenizer().begins_documents());
}

TEST_F(TokenizerTest, StreamedPartsGiveTheSameIds) {
  std::string text;
  for (std::uint64_t i = 0; text.size() < 200'000; ++i) {
    text += sentence(i) + (i % 3 == 0 ? "\n\n" : "  ");
    if (i % 50 == 7) text += std::string(5000, 'x') + "\xE6\xBC\xA2" + std::string(9000, ' ');
  }
  const std::vector<std::int32_t> whole = small_tokenizer().encode(text);
  for (const std::size_t part : {std::size_t{7}, std::size_t{1000}, std::size_t{65535},
                                 std::size_t{65536}, std::size_t{100'001}}) {
    StreamEncoder encoder(small_tokenizer());
    std::vector<std::int32_t> ids;
    for (std::size_t at = 0; at < text.size(); at += part) {
      encoder.push(std::string_view(text).substr(at, part), ids);
    }
    encoder.finish(ids);
    EXPECT_TRUE(ids == whole) << "parts of " << part;
    ids.clear();
    encoder.finish(ids);
    EXPECT_TRUE(ids.empty());
  }
}

TEST_F(TokenizerTest, TrainingIsDeterministicAndTheHashIsTheModels) {
  const Tokenizer again = train(350);
  EXPECT_EQ(again.hash(), small_tokenizer().hash());
  EXPECT_EQ(again.bytes(), small_tokenizer().bytes());
  EXPECT_NE(train(340).hash(), again.hash());
  EXPECT_EQ(again.vocabulary(), 350);

  const auto path = write("tokenizer.model", again.bytes());
  EXPECT_EQ(Tokenizer::load(path).hash(), again.hash());
  EXPECT_EQ(Tokenizer::load(path).encode("the river"), again.encode("the river"));
}

TEST_F(TokenizerTest, CommonWordsArePiecesAndEndOfDocumentIsNotText) {
  const std::vector<std::int32_t> ids = small_tokenizer().encode(" mountain");
  ASSERT_EQ(ids.size(), 1u);
  EXPECT_EQ(small_tokenizer().piece(ids[0]), " mountain");
  const std::int32_t end = small_tokenizer().end_of_document();
  EXPECT_EQ(small_tokenizer().piece(end), "</s>");
  EXPECT_EQ(small_tokenizer().decode(std::vector<std::int32_t>{ids[0], end}), " mountain");
}

TEST_F(TokenizerTest, LoneBytesAreShownAndReplaced) {
  const std::vector<std::int32_t> ids = small_tokenizer().encode("\xE6\xBC\xA2");
  ASSERT_EQ(ids.size(), 3u);
  EXPECT_TRUE(small_tokenizer().is_byte(ids[0]));
  EXPECT_EQ(small_tokenizer().piece(ids[0]), "<0xE6>");
  EXPECT_EQ(small_tokenizer().piece(small_tokenizer().encode("\n")[0]), "\n");
  EXPECT_EQ(small_tokenizer().decode(std::span(ids).first(2)), "\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST_F(TokenizerTest, TheSampleIsBoundedAndSpreadOverTheText) {
  TokenizerTrainer trainer({.vocabulary = 300, .sample_bytes = 20'000});
  for (int part = 0; part < 10; ++part) {
    for (std::uint64_t i = 0; i < 1000; ++i) trainer.add(sentence(i) + "\n");
    EXPECT_LE(trainer.sampled_bytes(), 20'000);
  }
  EXPECT_GT(trainer.sampled_bytes(), 7'000);
  // Words of the second half only must have made it into the sample.
  TokenizerTrainer spread({.vocabulary = 285, .sample_bytes = 20'000});
  for (int i = 0; i < 2000; ++i) spread.add("first half\n");
  for (int i = 0; i < 2000; ++i) spread.add("zebra\n");
  const std::vector<std::int32_t> ids = spread.train().encode("zebra");
  EXPECT_EQ(ids.size(), 1u) << "zebra is not one piece";
}

TEST_F(TokenizerTest, AVocabularyTheTextCannotFillSaysWhatFits) {
  const std::string error = user_error([] { train(100'000); });
  ASSERT_TRUE(mentions(error, {"vocabulary 100000", "at most ", "--vocabulary"}));
  const std::int64_t most = std::stoll(error.substr(error.find("at most ") + 8));
  EXPECT_EQ(train(most).vocabulary(), most);
  EXPECT_TRUE(mentions(user_error([] { train(200); }), {"vocabulary 200", "too small"}));
  EXPECT_TRUE(mentions(user_error([] { TokenizerTrainer({}).train(); }), {"text is empty"}));
}

TEST_F(TokenizerTest, FilesThatAreNoModelAreNamed) {
  EXPECT_TRUE(mentions(user_error([&] { Tokenizer::load(folder_ / "absent.model"); }),
                       {"absent.model", "No such file"}));
  const auto text = write("text.model", "this is no model at all, just text");
  EXPECT_TRUE(
      mentions(user_error([&] { Tokenizer::load(text); }), {"text.model", "SentencePiece"}));
  const auto empty = write("empty.model", "");
  EXPECT_TRUE(mentions(user_error([&] { Tokenizer::load(empty); }), {"empty.model", "empty"}));
  const std::string& bytes = small_tokenizer().bytes();
  const auto half = write("half.model", bytes.substr(0, bytes.size() / 2));
  EXPECT_TRUE(mentions(user_error([&] { Tokenizer::load(half); }), {"half.model"}));
}

// A model trained with SentencePiece's defaults drops spaces and has no byte fallback.
TEST_F(TokenizerTest, AModelThatChangesTextIsRefused) {
  std::string corpus;
  for (std::uint64_t i = 0; i < 300; ++i) corpus += sentence(i) + "\n";
  const auto input = write("corpus.txt", corpus);
  for (const bool byte_fallback : {false, true}) {
    std::string model;
    const std::unordered_map<std::string, std::string> settings{
        {"input", input.string()}, {"vocab_size", "300"},
        {"model_type", "bpe"},     {"byte_fallback", byte_fallback ? "true" : "false"},
        {"minloglevel", "2"},      {"hard_vocab_limit", "false"}};
    // With an iterator or an output string the trainer writes no files.
    ASSERT_TRUE(sentencepiece::SentencePieceTrainer::Train(settings, nullptr, &model).ok());
    const std::string error = user_error([&] { Tokenizer::from_bytes(model, "foreign.model"); });
    EXPECT_TRUE(
        mentions(error, {"foreign.model", byte_fallback ? "changes text" : "byte fallback"}));
  }
}

TEST_F(TokenizerTest, Utf8FollowsTheUnicodeTable) {
  for (const std::string bad :
       {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF",
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xE6\xBC", "\xC3"}) {
    EXPECT_EQ(utf8_valid_prefix("ascii text" + bad), 10u);
    std::string fixed;
    EXPECT_EQ(append_valid_utf8("a" + bad + "b", fixed), bad.size());
    EXPECT_EQ(utf8_valid_prefix(fixed), fixed.size());
  }
  EXPECT_EQ(utf8_valid_prefix("\xED\x9F\xBF\xEE\x80\x80\xF4\x8F\xBF\xBF"), 10u);
  EXPECT_EQ(utf8_incomplete_suffix("ab\xE6\xBC"), 2u);
  EXPECT_EQ(utf8_incomplete_suffix("ab\xF0\x9F\x98"), 3u);
  EXPECT_EQ(utf8_incomplete_suffix("ab\xE6\xBC\xA2"), 0u);
  EXPECT_EQ(utf8_incomplete_suffix("ab\xED\xA0"), 0u);  // a surrogate: no byte can complete it
  EXPECT_EQ(utf8_incomplete_suffix(""), 0u);
}

}  // namespace
}  // namespace filigree
