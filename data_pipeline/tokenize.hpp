// Text files to a folder of token shards.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "data_pipeline/importer.hpp"
#include "data_pipeline/manifest.hpp"
#include "data_pipeline/tokenizer_trainer.hpp"

namespace filigree {

struct TokenizeOptions {
  std::vector<std::string> inputs;  // files, folders; "-" is standard input, as plain text
  std::filesystem::path output;     // must not exist or be empty
  bool overwrite = false;           // ... or be a folder of shards, which is replaced
  std::filesystem::path tokenizer;  // what Tokenizer::load takes; empty: train one
  TokenizerTrainer::Options training;
  std::vector<std::string> extensions{".txt", ".rst", ".md", ".jsonl"};  // taken from folders
  ImportOptions import;
  double validation = 0.05;  // share of the documents, 0 to below 1; 0: no such split
  std::uint64_t seed = 0;    // of the split
  std::int64_t shard_bytes = std::int64_t{256} << 20;
};

struct TokenizeReport {
  std::int64_t files = 0, documents = 0, empty_documents = 0;
  std::int64_t text_bytes = 0, tokens = 0;
  std::int64_t unknown_tokens = 0;  // 0 with byte fallback
  std::int64_t byte_tokens = 0;     // bytes of characters without a piece (newlines too)
  std::int64_t replaced_bytes = 0;  // invalid UTF-8
  std::int64_t sampled_bytes = 0;   // the tokenizer was trained on; 0: it was given
  std::int64_t vocabulary = 0;
  std::map<std::string, SplitEntry> splits;
  double read_seconds = 0, train_seconds = 0, encode_seconds = 0;
};

struct TokenizeProgress {
  std::string_view phase;  // "reading", "training the tokenizer", "tokenizing"
  std::int64_t done_bytes = 0, total_bytes = 0;  // of this phase; total 0: not known
};

// Two passes over the inputs: the first counts documents, checks the text and samples it for the
// tokenizer, the second encodes. Memory does not grow with the text. Everything is written to a
// folder beside `output` that takes its name when complete; on failure it is removed. Deterministic
// in the inputs and options. Throws UserError.
TokenizeReport tokenize_corpus(const TokenizeOptions& options,
                               const std::function<void(const TokenizeProgress&)>& progress = {});

// Which documents are held out: each with probability `fraction`, by a random number of its index
// and the seed, so documents added later do not move earlier ones; but with two documents or more
// at least one on either side.
class SplitRule {
 public:
  // documents >= 2 unless fraction is 0.
  SplitRule(std::int64_t documents, double fraction, std::uint64_t seed);
  bool is_validation(std::int64_t document) const;

 private:
  double uniform(std::int64_t document) const;
  double fraction_;
  std::uint64_t seed_;
  std::int64_t forced_validation_ = -1, forced_train_ = -1;
};

}  // namespace filigree
