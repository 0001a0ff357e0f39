// Trains a SentencePiece model on a bounded sample of a text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data_pipeline/tokenizer.hpp"

namespace filigree {

class TokenizerTrainer {
 public:
  struct Options {
    std::int64_t vocabulary = 8192;                      // ids, with the 259 of bytes and controls
    std::int64_t sample_bytes = std::int64_t{64} << 20;  // most text kept for training
    double character_coverage =
        0.9999;  // share of the text whose characters get pieces; the rest is bytes
    std::uint64_t seed = 0;
  };
  explicit TokenizerTrainer(const Options& options) : options_(options) {}

  // Offers more text, valid UTF-8. Lines are kept with equal probability over everything offered,
  // whatever its length: a line stays while its random number is below a bound that is lowered when
  // the sample is full.
  void add(std::string_view text);
  void end_document();

  // Deterministic in the text, its order and the options. Throws UserError when the vocabulary is
  // larger or smaller than the sample can give, with what would fit.
  Tokenizer train();

  std::int64_t sampled_bytes() const { return sampled_bytes_; }

 private:
  struct Line {
    std::uint64_t priority;
    std::string text;
  };
  void add_line(std::string_view line);
  void shrink();

  Options options_;
  std::string pending_;  // the last line, not ended yet
  std::vector<Line> sample_;
  std::uint64_t bound_ = ~std::uint64_t{0};
  std::uint64_t lines_ = 0;
  std::int64_t sampled_bytes_ = 0;
};

}  // namespace filigree
