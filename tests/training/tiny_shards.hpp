// A folder of token shards made from a small text, with the configuration of a model that can learn
// it.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include "data_pipeline/tokenize.hpp"
#include "runtime/core/random.hpp"
#include "runtime/training/config.hpp"
#include "tests/harness/temporary_folder.hpp"

namespace filigree::testing {

// Sentences whose next word follows from the last one more often than not.
inline std::string tiny_document(std::uint64_t index) {
  static constexpr const char* kWords[] = {"river", "mountain", "the",  "quiet",
                                           "light", "walked",   "over", "stone"};
  const Philox random(11, RandomPurpose::test, index);
  std::string text;
  std::uint64_t word = index % 8;
  for (std::uint64_t i = 0; i < 30; ++i) {
    text += kWords[word];
    text += i % 10 == 9 ? ".\n" : " ";
    word = random.uniform(i) < 0.75 ? (word * 3 + 1) % 8
                                    : static_cast<std::uint64_t>(random.uniform(i + 1000) * 8);
  }
  return text;
}

// `first` picks the documents: folders of different `first` share neither text nor tokenizer.
inline void make_tiny_shards(const std::filesystem::path& folder, std::uint64_t first = 0) {
  const TemporaryFolder text;
  std::ofstream out(text.path() / "text.jsonl");
  for (std::uint64_t i = 0; i < 70; ++i)
    out << nlohmann::json{{"text", tiny_document(first + i)}} << '\n';
  out.close();
  TokenizeOptions options;
  options.inputs = {text.path() / "text.jsonl"};
  options.output = folder;
  options.training.vocabulary = 290;
  options.validation = 0.1;
  tokenize_corpus(options, {});
}

// Not resolved.
inline RunConfig tiny_run(const std::filesystem::path& shards, const std::filesystem::path& run) {
  RunConfig config;
  config.run = run;
  config.data.path = shards;
  config.model.layers = 1;
  config.model.width = 16;
  config.model.heads = 2;
  config.model.feed_forward = 32;
  config.model.sequence = 16;
  config.model.dropout = 0.1;
  config.optimizer.learning_rate = 2e-2;
  config.schedule.warmup_steps = 3;
  config.train.steps = 20;
  config.train.batch = 6;
  config.train.micro_batch = 2;
  config.checkpoint.every = 10;
  return config;
}

}  // namespace filigree::testing
