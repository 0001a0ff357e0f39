// Text cut into the matches of a regular expression, normalised to NFC before that if asked for.
#pragma once

#include <memory>
#include <string_view>

#include "data_pipeline/tokenizer_model.hpp"

namespace filigree {

// A compiled expression. It must match at the beginning of any text that is not empty, and match
// something there; otherwise cutting is an InternalError.
class SplitPattern {
 public:
  explicit SplitPattern(std::string_view expression);
  ~SplitPattern();

 private:
  friend class PatternSplitter;
  struct Compiled;
  std::unique_ptr<const Compiled> compiled_;
};

// A match is handed over once it no longer depends on what may follow: when the matcher did not
// look at the end of the text that is there. Runs that go on for ever (letters, spaces, combining
// marks) are divided after 65,536 UTF-16 units, so that no more than that is held back.
class PatternSplitter final : public WordSplitter {
 public:
  PatternSplitter(const SplitPattern& pattern, bool normalises);  // `pattern` must outlive this
  ~PatternSplitter() override;
  void push(std::string_view part, WordSink& sink) override;
  void finish(WordSink& sink) override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace filigree
