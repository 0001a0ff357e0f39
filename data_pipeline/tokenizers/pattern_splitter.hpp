// Text cut into the matches of a regular expression and the stretches between them, normalised to
// NFC before that if asked for.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "data_pipeline/tokenizer_model.hpp"
#include "runtime/storage/file_problem.hpp"

namespace filigree {

// A compiled expression, of which unsupported_part finds nothing. Throws UserError that `problem`
// begins when it is none that can be compiled, or matches nothing at all; while cutting, when a
// text makes it look for a match for too long.
class SplitPattern {
 public:
  SplitPattern(const std::string& expression, const FileProblem& problem);
  ~SplitPattern();

 private:
  friend class PatternSplitter;
  struct Compiled;
  std::unique_ptr<const Compiled> compiled_;
};

// A word is handed over once it no longer depends on what may follow: when the matcher did not
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
