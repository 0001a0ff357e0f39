#include "data_pipeline/tokenizer_trainer.hpp"

#include <sentencepiece_trainer.h>

#include <algorithm>
#include <unordered_map>

#include "data_pipeline/utf8.hpp"
#include "runtime/core/error.hpp"
#include "runtime/core/random.hpp"

namespace filigree {
namespace {

constexpr std::size_t kLongestLine = std::size_t{1} << 14;

class LineIterator final : public sentencepiece::SentenceIterator {
 public:
  explicit LineIterator(std::vector<std::string> lines) : lines_(std::move(lines)) {}
  bool done() const override { return next_ == lines_.size(); }
  void Next() override { ++next_; }
  const std::string& value() const override { return lines_[next_]; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  std::vector<std::string> lines_;
  std::size_t next_ = 0;
};

// The number after the last occurrence of `marker` in `text`, or -1.
std::int64_t number_after(const std::string& text, std::string_view marker) {
  const std::size_t at = text.rfind(marker);
  if (at == std::string::npos) return -1;
  try {
    return std::stoll(text.substr(at + marker.size()));
  } catch (const std::exception&) {
    return -1;
  }
}

[[noreturn]] void explain(const std::string& message, std::int64_t vocabulary) {
  const std::int64_t most = number_after(message, "value <= ");
  if (most > 0) {
    throw UserError(str("vocabulary ", vocabulary, " is more than this text can fill; at most ",
                        most, " fits: use --vocabulary ", most, " or less, or add text"));
  }
  const std::int64_t least = number_after(message, " vs ");
  if (least > 0) {
    throw UserError(str("vocabulary ", vocabulary,
                        " is too small for the characters of this text; more "
                        "than ",
                        least, " are needed: raise --vocabulary"));
  }
  throw UserError(str("cannot train a tokenizer with vocabulary ", vocabulary, ": ", message));
}

}  // namespace

void TokenizerTrainer::add(std::string_view text) {
  while (!text.empty()) {
    const std::size_t newline = text.find('\n');
    const std::string_view part = text.substr(0, newline);
    pending_ += part;
    while (pending_.size() > kLongestLine) {
      std::size_t end = pending_.rfind(' ', kLongestLine);
      if (end == std::string::npos || end == 0) {
        const std::string_view head = std::string_view(pending_).substr(0, kLongestLine);
        end = kLongestLine - utf8_incomplete_suffix(head);
      }
      add_line(std::string_view(pending_).substr(0, end));
      pending_.erase(0, end);
    }
    if (newline == std::string_view::npos) return;
    end_document();
    text.remove_prefix(newline + 1);
  }
}

void TokenizerTrainer::end_document() {
  add_line(pending_);
  pending_.clear();
}

void TokenizerTrainer::add_line(std::string_view line) {
  if (line.empty()) return;
  static const std::uint64_t stream = hash_text("tokenizer sample");
  const auto words = Philox(options_.seed, RandomPurpose::sampling, stream).bits(lines_++);
  const std::uint64_t priority = std::uint64_t{words[0]} << 32 | words[1];
  if (priority > bound_) return;
  sample_.push_back({priority, std::string(line)});
  sampled_bytes_ += static_cast<std::int64_t>(line.size());
  while (sampled_bytes_ > options_.sample_bytes && sample_.size() > 1) shrink();
}

void TokenizerTrainer::shrink() {
  bound_ /= 2;
  std::erase_if(sample_, [&](const Line& line) { return line.priority > bound_; });
  sampled_bytes_ = 0;
  for (const Line& line : sample_) sampled_bytes_ += static_cast<std::int64_t>(line.text.size());
}

Tokenizer TokenizerTrainer::train() {
  end_document();
  std::vector<std::string> lines;
  lines.reserve(sample_.size());
  for (Line& line : sample_) lines.push_back(std::move(line.text));
  sample_.clear();
  if (lines.empty()) throw UserError("cannot train a tokenizer: the text is empty");

  const std::unordered_map<std::string, std::string> settings{
      {"model_type", "bpe"},
      {"vocab_size", std::to_string(options_.vocabulary)},
      {"character_coverage", str(options_.character_coverage)},
      {"byte_fallback", "true"},
      // A document begins behind the end of the one before.
      {"bos_id", "-1"},
      {"pad_id", "1"},
      // Text must come back as it went in.
      {"normalization_rule_name", "identity"},
      {"add_dummy_prefix", "false"},
      {"remove_extra_whitespaces", "false"},
      {"allow_whitespace_only_pieces", "true"},  // indentation
      {"split_digits", "true"},
      // Longer lines would be dropped without a word.
      {"max_sentence_length", std::to_string(4 * kLongestLine)},
      {"num_threads", "1"},
      {"minloglevel", "2"}};
  LineIterator iterator(std::move(lines));
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(settings, &iterator, &model);
  if (!status.ok()) explain(status.error_message(), options_.vocabulary);
  return Tokenizer::from_bytes(std::move(model), "just trained");
}

}  // namespace filigree
