// Which expressions of a pre_tokenizer are taken, and how text is cut by them.
#include "data_pipeline/tokenizers/split_expression.hpp"

#include <random>

#include "data_pipeline/tokenizers/pattern_splitter.hpp"
#include "tests/data_pipeline/byte_level_fixture.hpp"
#include "tests/data_pipeline/test_support.hpp"

namespace filigree {
namespace {

using test::mentions;
using test::user_error;

struct Words final : WordSink {
  void word(std::string_view text) override { list.emplace_back(text); }
  void token(std::int32_t) override { ADD_FAILURE(); }
  std::vector<std::string> list;
};

// `part`: most bytes that are pushed at once.
std::vector<std::string> cut(const std::string& expression, const std::string& text,
                             std::size_t part = 1000) {
  const SplitPattern pattern(expression, FileProblem("tokenizer", "test"));
  PatternSplitter splitter(pattern, false);
  Words words;
  for (std::size_t at = 0; at < text.size(); at += part)
    splitter.push(text.substr(at, part), words);
  splitter.finish(words);
  return words.list;
}

using List = std::vector<std::string>;

TEST(SplitExpression, WhatBothReadersReadAlikeIsTaken) {
  for (const auto& [name, expression] : test::kSplitPatterns)
    EXPECT_EQ(unsupported_part(expression), "") << name;
  for (const char* expression :
       {"", "a|b", "(ab)+", "(?:a|b)*?", "(?i:'s)", "(?>a+)", "a(?=b)", "a(?!b)", "[^\\s\\p{L}]",
        "[a-z\\-\\]]", "\\p{Lu}\\P{N}", "\\$\\.\\\\", "x{2}y{2,}z{2,3}", "a?+b*+c++", "\xC3\xA9",
        "[/ ,]", "a-b", "\\d\\D\\s\\S\\r\\n\\t"})
    EXPECT_EQ(unsupported_part(expression), "") << expression;
}

TEST(SplitExpression, TheRestIsNamed) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"a.b", ".b"},
      {"^a", "^a"},
      {"a$", "$"},
      {"a|\\w+", "\\w+"},
      {"\\ba", "\\ba"},
      {"(a)\\1", "\\1"},
      {"\\x{41}", "\\x{41}"},
      {"\\u0041", "\\u0041"},
      {"\\h", "\\h"},
      {"\\", "\\"},
      {"\\p{Han}", "\\p{Han}"},
      {"\\pL", "\\pL"},
      {"\\p{}", "\\p{}"},
      {"\\p{^L}", "\\p{^L}"},
      {"(?<=a)b", "(?<=a)b"},
      {"(?<n>a)", "(?<n>a)"},
      {"(?x: a)", "(?x: a)"},
      {"(?m)a", "(?m)a"},
      {"[a[b]]", "[a[b]]"},
      {"[:alpha:]", "[:alpha:]"},
      {"[a&&b]", "[a&&b]"},
      {"[a--b]", "[a--b]"},
      {"[]a]", "[]a]"},
      {"[^]", "[^]"},
      {"[a", "[a"},
      {"[\\w]", "[\\w]"},
      {"a{2}+", "{2}+"},
      {"a{2}?", "{2}?"},
      {"a{,2}", "{,2}"},
      {"a{x}", "{x}"},
      {"a{1,2,3}", "{1,2,3}"},
      {"a{", "{"},
      {"\\w0123456789abcdefgh", "\\w0123456789abcd"},
      {"\\w0123456789abc\xC3\xA9", "\\w0123456789abc"},
  };
  for (const auto& [expression, part] : cases)
    EXPECT_EQ(unsupported_part(expression), part) << expression;
}

TEST(SplitExpression, WhatLiesBetweenMatchesAreWordsToo) {
  EXPECT_EQ(cut("b+", "aabbbcab"), (List{"aa", "bbb", "ca", "b"}));
  EXPECT_EQ(cut("\\d\\d|x", "12345y"), (List{"12", "34", "5y"}));
  EXPECT_EQ(cut("b", "aaa"), (List{"aaa"}));
  EXPECT_EQ(cut("b", ""), (List{}));
  EXPECT_EQ(cut("b(?!c)", "abcb"), (List{"abc", "b"}));
}

TEST(SplitExpression, WordsDoNotDependOnWherePartsEnd) {
  std::mt19937 random(3);
  for (const char* expression :
       {"b+", "b+(?!c)", "ab|abcab", "(?:ab)+c", "a++b", "[^a]c?|aa", "b{2,3}", "c(?=a)|b(?!b)"}) {
    for (int round = 0; round < 300; ++round) {
      std::string text;
      for (std::size_t size = random() % 60; text.size() < size;) text += "abc"[random() % 3];
      const List whole = cut(expression, text);
      for (const std::size_t part : {1u, 2u, 7u})
        ASSERT_EQ(cut(expression, text, part), whole) << expression << " " << text;
    }
  }
}

// Without a limit these would take longer than anybody waits, or all memory.
TEST(SplitExpression, TooManyWaysAreGivenUp) {
  for (const char* expression : {"(a*)*b", "(?:a|a)*b", "(?:a+)+b", "(?:a|b|ab)*c"}) {
    std::string text(5000, 'a');
    text += "c";
    const std::string error = user_error([&] { cut(expression, text); });
    if (error == testing::kNoUserError) continue;  // some are seen through
    EXPECT_TRUE(mentions(error, {"tokenizer file test: ", "pre_tokenizer", "too long"}));
  }
  EXPECT_TRUE(mentions(user_error([] { cut("(?:a+)+b", std::string(5000, 'a')); }), {"too long"}));
}

TEST(SplitExpression, OnesThatMatchNoWordsAreRefused) {
  for (const char* expression : {"a*", "", "a|", "(?=a)|b"})
    EXPECT_TRUE(mentions(user_error([&] { cut(expression, "ca"); }), {"matches nothing at all"}))
        << expression;
  for (const char* expression : {"(", "a)", "*", "[b-a]", "\\p{Xx}", "a{3,2}"})
    EXPECT_TRUE(mentions(user_error([&] { cut(expression, "a"); }), {"tokenizer file test: "}))
        << expression;
}

}  // namespace
}  // namespace filigree
