// Folders of token shards for tests.
#pragma once

#include <map>
#include <nlohmann/json.hpp>

#include "data_pipeline/tokenize.hpp"
#include "tests/data_pipeline/test_support.hpp"

namespace filigree::test {

class ShardsTest : public testing::FolderTest {
 protected:
  static std::string document(std::uint64_t index) {
    std::string text;
    for (std::uint64_t line = 0; line < 20 + index % 7; ++line) {
      text += sentence(index * 100 + line) + "\n";
    }
    return text;
  }

  // A .jsonl of `documents` documents.
  std::filesystem::path corpus(std::uint64_t documents, std::uint64_t first = 0) const {
    std::string lines;
    for (std::uint64_t i = 0; i < documents; ++i) {
      lines += nlohmann::json{{"text", document(first + i)}}.dump() + "\n";
    }
    return write(str("corpus_", first, "_", documents, ".jsonl"), lines);
  }

  // A tokenizer for the documents from `first` on, trained once in a process.
  std::filesystem::path tokenizer_file(std::uint64_t first = 0) const {
    static std::map<std::uint64_t, std::string> trained;
    std::string& bytes = trained[first];
    if (bytes.empty()) {
      TokenizerTrainer trainer({.vocabulary = 320});
      for (std::uint64_t i = 0; i < 30; ++i) trainer.add(document(first + i));
      bytes = trainer.train().bytes();
    }
    return write(str("tokenizer_", first, ".model"), bytes);
  }

  TokenizeOptions options(const std::filesystem::path& input, const std::string& output) const {
    TokenizeOptions options;
    options.inputs = {input.string()};
    options.output = folder_ / output;
    options.training.vocabulary = 320;
    options.validation = 0.1;
    options.shard_bytes = 32768;  // two checksum blocks
    return options;
  }

  // Several shards for training, one for validation.
  std::filesystem::path make_shards(const std::string& output = "shards",
                                    std::uint64_t first = 0) const {
    TokenizeOptions made = options(corpus(200, first), output);
    made.tokenizer = tokenizer_file(first);
    tokenize_corpus(made);
    return folder_ / output;
  }
};

}  // namespace filigree::test
