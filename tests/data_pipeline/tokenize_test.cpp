#include "data_pipeline/tokenize.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <sentencepiece_trainer.h>

#include <algorithm>
#include <fstream>
#include <set>

#include "data_pipeline/shard_writer.hpp"
#include "data_pipeline/token_dataset.hpp"
#include "runtime/storage/atomic_file.hpp"
#include "runtime/storage/hash.hpp"
#include "runtime/storage/hdf5_file.hpp"
#include "tests/data_pipeline/shards_fixture.hpp"

namespace filigree {
namespace {

using test::mentions;
using test::user_error;

class TokenizeTest : public test::ShardsTest {
 protected:
  // The documents of a split, decoded, by the end-of-document ids.
  static std::vector<std::string> documents(const std::filesystem::path& folder,
                                            const std::string& split) {
    const TokenDataset dataset = TokenDataset::open(folder, split);
    const Tokenizer tokenizer = tokenizer_of(folder);
    std::vector<std::int32_t> ids(static_cast<std::size_t>(dataset.tokens()));
    dataset.read(0, ids);
    std::vector<std::string> texts;
    auto begin = ids.begin();
    while (begin != ids.end()) {
      const auto end = std::find(begin, ids.end(), tokenizer.end_of_document());
      if (end == ids.end()) {
        ADD_FAILURE() << "the last document has no end";
        break;
      }
      texts.push_back(tokenizer.decode(std::vector<std::int32_t>(begin, end)));
      begin = end + 1;
    }
    return texts;
  }
  std::set<std::string> names_in_scratch() const {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      names.insert(entry.path().filename().string());
    }
    return names;
  }
};

TEST_F(TokenizeTest, EveryDocumentComesBackInItsSplit) {
  TokenizeOptions options = this->options(corpus(100), "shards");
  const TokenizeReport report = tokenize_corpus(options);
  const SplitRule rule(100, 0.1, 0);
  std::map<std::string, std::vector<std::string>> expected;
  for (std::uint64_t i = 0; i < 100; ++i) {
    expected[rule.is_validation(static_cast<std::int64_t>(i)) ? "validation" : "train"].push_back(
        document(i));
  }
  std::int64_t text_bytes = 0, tokens = 0;
  for (const std::string split : {"train", "validation"}) {
    EXPECT_TRUE(documents(options.output, split) == expected[split]) << split;
    const TokenDataset dataset = TokenDataset::open(options.output, split);
    EXPECT_EQ(dataset.documents(), static_cast<std::int64_t>(expected[split].size()));
    std::int64_t bytes = 0;
    for (const std::string& text : expected[split]) bytes += static_cast<std::int64_t>(text.size());
    EXPECT_EQ(dataset.text_bytes(), bytes);
    EXPECT_EQ(dataset.vocabulary(), 320);
    EXPECT_EQ(dataset.tokenizer_hash(), tokenizer_of(options.output).hash());
    text_bytes += bytes;
    tokens += dataset.tokens();
  }
  EXPECT_EQ(report.documents, 100);
  EXPECT_EQ(report.files, 1);
  EXPECT_EQ(report.text_bytes, text_bytes);
  EXPECT_EQ(report.tokens, tokens);
  EXPECT_EQ(report.unknown_tokens, 0);
  EXPECT_GT(report.byte_tokens, 0);                      // newlines
  EXPECT_GT(report.sampled_bytes, text_bytes * 9 / 10);  // all but the newlines
  EXPECT_LT(report.sampled_bytes, text_bytes);
  EXPECT_NE(TokenDataset::open(options.output, "train").hash(),
            TokenDataset::open(options.output, "validation").hash());
}

TEST_F(TokenizeTest, EqualInputsGiveEqualBytes) {
  for (const char* output : {"a", "b"}) tokenize_corpus(options(corpus(60), output));
  for (const auto& entry : std::filesystem::directory_iterator(folder_ / "a")) {
    const auto other = folder_ / "b" / entry.path().filename();
    EXPECT_EQ(hash128_of_file(entry.path()), hash128_of_file(other)) << entry.path().filename();
  }
  TokenizeOptions reseeded = options(corpus(60), "c");
  reseeded.seed = 1;
  tokenize_corpus(reseeded);
  EXPECT_NE(TokenDataset::open(folder_ / "a", "train").hash(),
            TokenDataset::open(folder_ / "c", "train").hash());
}

TEST_F(TokenizeTest, DocumentOffsetsPointBehindTheEnds) {
  const auto folder = make_shards();
  const std::int32_t end = tokenizer_of(folder).end_of_document();
  const TokenDataset dataset = TokenDataset::open(folder, "train");
  std::vector<std::int32_t> ids(static_cast<std::size_t>(dataset.tokens()));
  dataset.read(0, ids);
  std::vector<std::int64_t> expected{0}, found;
  for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
    if (ids[i] == end) expected.push_back(static_cast<std::int64_t>(i) + 1);
  }
  std::int64_t begin = 0;
  const Manifest manifest = read_manifest(folder);
  for (const ShardEntry& shard : manifest.splits.at("train").shards) {
    const Hdf5Dataset stored = Hdf5File::open(folder / shard.file).dataset("document_offsets");
    std::vector<std::uint64_t> offsets(static_cast<std::size_t>(shard.documents));
    ASSERT_EQ(stored.bytes, shard.documents * 8);
    PosixFile::open_for_reading(folder / shard.file)
        .read_at(stored.file_offset, offsets.data(), stored.bytes);
    for (const std::uint64_t offset : offsets) {
      found.push_back(begin + static_cast<std::int64_t>(offset));
    }
    begin += shard.tokens;
  }
  EXPECT_EQ(found, expected);
}

TEST_F(TokenizeTest, DocumentsBeginWithTheTokenThatTheTokenizerHasForIt) {
  const std::string text = document(1);
  std::string model;
  const std::unordered_map<std::string, std::string> settings{
      {"input", write("text.txt", text).string()},
      {"vocab_size", "300"},
      {"hard_vocab_limit", "false"},
      {"byte_fallback", "true"},
      {"normalization_rule_name", "identity"},
      {"add_dummy_prefix", "false"},
      {"remove_extra_whitespaces", "false"},
      {"minloglevel", "2"}};
  ASSERT_TRUE(sentencepiece::SentencePieceTrainer::Train(settings, nullptr, &model).ok());
  TokenizeOptions options = this->options(corpus(20), "shards");
  options.tokenizer = write("theirs.model", model);
  options.validation = 0;
  tokenize_corpus(options);
  const TokenDataset dataset = TokenDataset::open(options.output, "train");
  const Tokenizer tokenizer = tokenizer_of(options.output);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(dataset.tokens())), expected;
  dataset.read(0, ids);
  for (std::uint64_t i = 0; i < 20; ++i) {
    expected.push_back(1);  // <s>
    const std::vector<std::int32_t> inner = tokenizer.encode(document(i));
    expected.insert(expected.end(), inner.begin(), inner.end());
    expected.push_back(2);  // </s>
  }
  EXPECT_EQ(ids, expected);
  EXPECT_EQ(documents(options.output, "train").at(3), document(3));
}

TEST_F(TokenizeTest, NastyTextsComeBackFromTheShards) {
  const std::vector<std::string> texts{"\n\n leading and trailing  \n\n",
                                       "\ttabs\t\t",
                                       "</s><s>",
                                       "\xE2\x96\x81 and \xF0\x9F\x98\x80",
                                       std::string("a\0b", 3),
                                       std::string(10'000, ' '),
                                       "\r\n\r\n"};
  std::string lines;
  for (const std::string& text : texts) lines += nlohmann::json{{"text", text}}.dump() + "\n";
  TokenizeOptions options = this->options(write("nasty.jsonl", lines), "shards");
  options.tokenizer = tokenizer_file();
  options.validation = 0;
  tokenize_corpus(options);
  EXPECT_EQ(documents(options.output, "train"), texts);
  EXPECT_TRUE(mentions(user_error([&] { TokenDataset::open(options.output, "validation"); }),
                       {"'validation'", "train"}));
}

TEST_F(TokenizeTest, EmptyDocumentsAreLeftOutAndCounted) {
  TokenizeOptions options = this->options(
      write("e.jsonl", "{\"text\":\"\"}\n{\"text\":\"a\"}\n{\"text\":\"\"}\n{\"text\":\"b\"}\n"),
      "shards");
  options.tokenizer = tokenizer_file();
  const TokenizeReport report = tokenize_corpus(options);
  EXPECT_EQ(report.documents, 2);
  EXPECT_EQ(report.empty_documents, 2);
  EXPECT_EQ(report.splits.at("train").documents, 1);
  EXPECT_EQ(report.splits.at("validation").documents, 1);
}

TEST_F(TokenizeTest, SplitsAreStableAndNeverEmpty) {
  const SplitRule small(1000, 0.05, 3), large(5000, 0.05, 3);
  int held_out = 0;
  for (std::int64_t i = 0; i < 1000; ++i) {
    EXPECT_EQ(small.is_validation(i), large.is_validation(i)) << "document " << i;
    held_out += small.is_validation(i) ? 1 : 0;
  }
  EXPECT_GT(held_out, 25);  // 50 +- 7
  EXPECT_LT(held_out, 80);
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    for (const double fraction : {1e-9, 0.5, 0.9}) {
      const SplitRule rule(3, fraction, seed);
      const int count = rule.is_validation(0) + rule.is_validation(1) + rule.is_validation(2);
      EXPECT_TRUE(count == 1 || count == 2) << "fraction " << fraction << ", seed " << seed;
    }
  }
}

TEST_F(TokenizeTest, ASingleDocumentNeedsToBeDivided) {
  TokenizeOptions options = this->options(write("one.txt", document(1) + document(2)), "shards");
  options.tokenizer = tokenizer_file();
  EXPECT_TRUE(mentions(user_error([&] { tokenize_corpus(options); }),
                       {"one.txt", "single document", "--document-lines", "--validation 0"}));
  EXPECT_FALSE(std::filesystem::exists(options.output));
  options.import.document_lines = 10;
  EXPECT_GE(tokenize_corpus(options).documents, 4);
  const auto train = documents(options.output, "train");
  EXPECT_EQ(std::count(train[0].begin(), train[0].end(), '\n'), 10);
}

TEST_F(TokenizeTest, AFailureLeavesNothingBehind) {
  write("texts/a.txt", document(1));
  write("texts/b.txt", "good line\nbad \xFF line\n");
  const auto before = names_in_scratch();
  TokenizeOptions options = this->options(folder_ / "texts", "shards");
  EXPECT_TRUE(
      mentions(user_error([&] { tokenize_corpus(options); }), {"b.txt:2:", "invalid UTF-8"}));
  EXPECT_EQ(names_in_scratch(), before);

  write("texts/b.txt", "");
  write("texts/a.txt", "");
  EXPECT_TRUE(mentions(user_error([&] { tokenize_corpus(options); }), {"empty", "a.txt"}));
  options.training.vocabulary = 50'000;
  write("texts/a.txt", document(1));
  write("texts/b.txt", document(2));
  EXPECT_TRUE(
      mentions(user_error([&] { tokenize_corpus(options); }), {"vocabulary 50000", "at most"}));
  EXPECT_EQ(names_in_scratch(), before);
}

TEST_F(TokenizeTest, AnExistingOutputIsKeptUnlessToldOtherwise) {
  const auto folder = make_shards();
  const std::string hash = TokenDataset::open(folder, "train").hash();
  TokenizeOptions options = this->options(corpus(50, 700), "shards");
  options.tokenizer = tokenizer_file();
  EXPECT_TRUE(mentions(user_error([&] { tokenize_corpus(options); }),
                       {"shards", "not empty", "--overwrite"}));
  EXPECT_EQ(TokenDataset::open(folder, "train").hash(), hash);
  options.overwrite = true;
  tokenize_corpus(options);
  EXPECT_NE(TokenDataset::open(folder, "train").hash(), hash);
  for (const std::string& name : names_in_scratch()) {
    EXPECT_EQ(name.find("shards."), std::string::npos) << name << " was left";
  }

  write("precious/file", "x");
  options.output = folder_ / "precious";
  EXPECT_TRUE(
      mentions(user_error([&] { tokenize_corpus(options); }), {"precious", "manifest.json"}));
  EXPECT_EQ(read_file(folder_ / "precious/file"), "x");
  options.output = write("afile", "x");
  EXPECT_TRUE(mentions(user_error([&] { tokenize_corpus(options); }), {"afile", "it is a file"}));
  options.output = folder_ / "afile" / "below";
  EXPECT_TRUE(mentions(user_error([&] { tokenize_corpus(options); }), {"afile"}));
  std::filesystem::create_directory(folder_ / "hollow");
  options.output = (folder_ / "hollow").string() + "/";
  options.overwrite = false;
  tokenize_corpus(options);
  EXPECT_GT(TokenDataset::open(folder_ / "hollow", "train").tokens(), 0);
}

TEST_F(TokenizeTest, StandardInputIsReadOnceAndTokenized) {
  const auto text = write("piped.txt", document(1) + "\n" + document(2) + "\n" + document(3));
  TokenizeOptions options = this->options("-", "shards");
  options.tokenizer = tokenizer_file();
  options.import.document_paragraphs = 1;
  const int saved = ::dup(STDIN_FILENO), input = ::open(text.c_str(), O_RDONLY);
  ::dup2(input, STDIN_FILENO);
  const TokenizeReport report = tokenize_corpus(options);
  ::dup2(saved, STDIN_FILENO);
  ::close(saved);
  ::close(input);
  EXPECT_EQ(report.documents, 3);
  EXPECT_EQ(report.text_bytes, static_cast<std::int64_t>(std::filesystem::file_size(text)));
  for (const auto& entry : std::filesystem::directory_iterator(options.output)) {
    EXPECT_NE(entry.path().extension(), ".spool");
  }
}

TEST_F(TokenizeTest, ProgressCoversEveryByte) {
  std::map<std::string, std::pair<std::int64_t, std::int64_t>> last;
  const auto input = corpus(50);
  tokenize_corpus(options(input, "shards"), [&](const TokenizeProgress& progress) {
    auto& [done, total] = last[std::string(progress.phase)];
    EXPECT_GE(progress.done_bytes, done);
    done = progress.done_bytes;
    total = progress.total_bytes;
  });
  const auto size = static_cast<std::int64_t>(std::filesystem::file_size(input));
  EXPECT_EQ(last["reading"], std::make_pair(size, size));
  EXPECT_EQ(last["tokenizing"], std::make_pair(size, size));
  EXPECT_EQ(last.count("training the tokenizer"), 1u);
}

// A text of 20 MB in one document: neither it (20 MB) nor its tokens (27 MB) may be held.
TEST_F(TokenizeTest, MemoryDoesNotGrowWithTheText) {
  const auto path = folder_ / "large.txt";
  {
    std::ofstream out(path, std::ios::binary);
    std::string lines;
    for (std::uint64_t i = 0; i < 200; ++i) lines += test::sentence(i) + "\n";
    while (out.tellp() < 20'000'000) out << lines;
  }
  TokenizeOptions options = this->options(path, "shards");
  options.tokenizer = tokenizer_file();
  options.validation = 0;
  options.shard_bytes = std::int64_t{4} << 20;
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    struct rusage before {
    }, after{};
    ::getrusage(RUSAGE_SELF, &before);
    tokenize_corpus(options);
    ::getrusage(RUSAGE_SELF, &after);
    ::_exit(static_cast<int>(std::min(255L, (after.ru_maxrss - before.ru_maxrss) / 1024)));
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
#if !defined(__SANITIZE_ADDRESS__)  // which keeps freed memory back, so that its peak says nothing
  EXPECT_LT(WEXITSTATUS(status), 12) << "MiB more at the peak";
#endif
  EXPECT_EQ(TokenDataset::open(options.output, "train").text_bytes(),
            static_cast<std::int64_t>(std::filesystem::file_size(path)));
}

TEST_F(TokenizeTest, TokensAreStoredInTwoOrFourBytes) {
  EXPECT_EQ((Manifest{.vocabulary = 65536}.element_bytes()), 2);
  EXPECT_EQ((Manifest{.vocabulary = 65537}.element_bytes()), 4);
  const std::vector<std::int32_t> ids{0, 1, 258, 65535};
  for (const std::int64_t element_bytes : {2, 4}) {
    std::vector<std::byte> stored(ids.size() * static_cast<std::size_t>(element_bytes));
    store_tokens(ids, element_bytes, stored.data());
    EXPECT_EQ(stored[static_cast<std::size_t>(2 * element_bytes)],
              std::byte{2});  // little-endian 258
    std::vector<std::int32_t> back(ids.size(), -1);
    load_tokens(stored.data(), element_bytes, back);
    EXPECT_EQ(back, ids);
  }
}

}  // namespace
}  // namespace filigree
