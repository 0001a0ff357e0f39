#include "data_pipeline/tokenizers/pattern_splitter.hpp"

#include <unicode/normalizer2.h>
#include <unicode/regex.h>
#include <unicode/ustring.h>
#include <unicode/utf.h>

#include <algorithm>
#include <string>

#include "data_pipeline/utf8.hpp"
#include "runtime/core/error.hpp"

namespace filigree {
namespace {

constexpr std::size_t kLongestRun = std::size_t{1} << 16;   // UTF-16 units
constexpr std::size_t kLongestPart = std::size_t{1} << 16;  // bytes, taken in at once

// Of one match, in ICU's unit of 10,000 saved states: thousands of times what one for a run of
// kLongestRun needs, and below a second. It counts no time, so that the same text always gives the
// same result.
constexpr std::int32_t kMostEffort = 1000;

void check(UErrorCode status) { FILIGREE_CHECK(U_SUCCESS(status), "ICU: ", u_errorName(status)); }

// A view of it, valid while `text` is.
icu::UnicodeString view_of(std::u16string_view text) {
  return {false, icu::ConstChar16Ptr(text.data()), static_cast<std::int32_t>(text.size())};
}

void append_utf16(std::string_view text, std::u16string& out) {
  const std::size_t before = out.size();
  out.resize(before + text.size());  // never more units than bytes
  std::int32_t length = 0;
  UErrorCode status = U_ZERO_ERROR;
  u_strFromUTF8WithSub(out.data() + before, static_cast<std::int32_t>(text.size()), &length,
                       text.data(), static_cast<std::int32_t>(text.size()), 0xFFFD, nullptr,
                       &status);
  out.resize(before + static_cast<std::size_t>(length));
  if (status == U_STRING_NOT_TERMINATED_WARNING) status = U_ZERO_ERROR;
  check(status);
}

void assign_utf8(std::u16string_view text, std::string& out) {
  out.resize(3 * text.size());
  std::size_t length = 0;
  for (std::size_t i = 0; i < text.size();) {
    UChar32 code = 0;
    U16_NEXT(text.data(), i, text.size(), code);
    U8_APPEND_UNSAFE(out.data(), length, code);
  }
  out.resize(length);
}

// The longest beginning that may be looked at, of whole characters.
std::u16string_view window_of(std::u16string_view text) {
  if (text.size() <= kLongestRun) return text;
  return text.substr(0, kLongestRun - (U16_IS_LEAD(text[kLongestRun - 1]) ? 1 : 0));
}

const icu::Normalizer2& nfc() {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* normalizer = icu::Normalizer2::getNFCInstance(status);
  check(status);
  return *normalizer;
}

}  // namespace

struct SplitPattern::Compiled {
  std::unique_ptr<icu::RegexPattern> pattern;
  FileProblem problem;

  std::unique_ptr<icu::RegexMatcher> matcher() const {
    UErrorCode status = U_ZERO_ERROR;
    std::unique_ptr<icu::RegexMatcher> result(pattern->matcher(status));
    check(status);
    result->setTimeLimit(kMostEffort, status);
    check(status);
    return result;
  }
  [[noreturn]] void fail(const char* what) const {
    problem.fail("the expression of its pre_tokenizer ", what);
  }
};

SplitPattern::SplitPattern(const std::string& expression, const FileProblem& problem) {
  UErrorCode status = U_ZERO_ERROR;
  std::unique_ptr<icu::RegexPattern> pattern(
      icu::RegexPattern::compile(icu::UnicodeString::fromUTF8(expression), 0, status));
  compiled_ = std::make_unique<Compiled>(Compiled{std::move(pattern), problem});
  if (U_FAILURE(status)) compiled_->fail(u_errorName(status));
  const icu::UnicodeString nothing;
  const auto matcher = compiled_->matcher();
  matcher->reset(nothing);
  if (matcher->lookingAt(status)) compiled_->fail("matches nothing at all; it must match words");
  check(status);
}
SplitPattern::~SplitPattern() = default;

struct PatternSplitter::State {
  State(const SplitPattern::Compiled& compiled, bool nfc_wanted)
      : pattern(compiled), normalises(nfc_wanted), matcher(compiled.matcher()) {}

  // What is normalised no longer depends on what follows where a character begins that never joins
  // the ones before it.
  void normalise(bool last) {
    std::size_t flushed = 0, begin = 0;  // `begin`: of the run that is looked at
    for (std::size_t i = 0; i < raw.size();) {
      const std::size_t at = i;
      UChar32 code = 0;
      U16_NEXT(raw.data(), i, raw.size(), code);
      const bool too_long = i - begin > kLongestRun;
      if (!too_long && !nfc().hasBoundaryBefore(code)) continue;
      begin = at;
      if (too_long) flush(flushed, at);
    }
    flush(flushed, last ? raw.size() : begin);
    raw.erase(0, flushed);
  }
  void flush(std::size_t& from, std::size_t to) {
    const icu::UnicodeString piece = view_of(std::u16string_view(raw).substr(from, to - from));
    UErrorCode status = U_ZERO_ERROR;
    if (nfc().spanQuickCheckYes(piece, status) == piece.length()) {
      text.append(raw, from, to - from);
    } else {
      const icu::UnicodeString normal = nfc().normalize(piece, status);
      text.append(normal.getBuffer(), static_cast<std::size_t>(normal.length()));
    }
    check(status);
    from = to;
  }

  void cut(bool last, WordSink& sink) {
    const std::u16string_view all = text;
    const icu::UnicodeString shown = view_of(all);
    matcher->reset(shown);
    std::size_t begin = 0;
    while (begin < all.size()) {
      const std::u16string_view window = window_of(all.substr(begin));
      const bool open = !last && begin + window.size() == all.size();  // more text may follow it
      if (open && window.size() < retry) break;
      const Match match = find(begin, begin + window.size());
      if (open && matcher->hitEnd()) {
        retry = 2 * window.size();  // not again for every byte that comes
        break;
      }
      hand_over(all.substr(begin, match.begin - begin), sink);
      hand_over(all.substr(match.begin, match.end - match.begin), sink);
      begin = match.end;
      retry = 0;
    }
    text.erase(0, begin);
  }
  void hand_over(std::u16string_view part, WordSink& sink) {
    if (part.empty()) return;
    assign_utf8(part, word);
    sink.word(word);
  }

  // The first match of text [from, to), or an empty one at its end.
  struct Match {
    std::size_t begin, end;
  };
  Match find(std::size_t from, std::size_t to) {
    UErrorCode status = U_ZERO_ERROR;
    matcher->region(static_cast<std::int64_t>(from), static_cast<std::int64_t>(to), status);
    Match match{to, to};
    if (matcher->find(status))
      match = {static_cast<std::size_t>(matcher->start64(status)),
               static_cast<std::size_t>(matcher->end64(status))};
    if (status == U_REGEX_TIME_OUT || status == U_REGEX_STACK_OVERFLOW)
      pattern.fail("takes too long to match a text: it tries too many ways");
    check(status);
    if (match.begin == match.end && match.end != to)
      pattern.fail("matches nothing at all in a text; it must match words");
    return match;
  }

  const SplitPattern::Compiled& pattern;
  bool normalises;
  std::unique_ptr<icu::RegexMatcher> matcher;
  std::u16string raw;     // not normalised yet
  std::u16string text;    // not cut yet
  std::size_t retry = 0;  // how much of it must be there before it is looked at again
  std::string word;
};

PatternSplitter::PatternSplitter(const SplitPattern& pattern, bool normalises)
    : state_(std::make_unique<State>(*pattern.compiled_, normalises)) {}
PatternSplitter::~PatternSplitter() = default;

void PatternSplitter::push(std::string_view part, WordSink& sink) {
  while (!part.empty()) {
    std::string_view head = part.substr(0, kLongestPart);
    if (head.size() < part.size()) head.remove_suffix(utf8_incomplete_suffix(head));
    part.remove_prefix(head.size());
    append_utf16(head, state_->normalises ? state_->raw : state_->text);
    if (state_->normalises) state_->normalise(false);
    state_->cut(false, sink);
  }
}

void PatternSplitter::finish(WordSink& sink) {
  if (state_->normalises) state_->normalise(true);
  state_->retry = 0;
  state_->cut(true, sink);
}

}  // namespace filigree
