#include "runtime/core/error.hpp"

#include <algorithm>
#include <numeric>

namespace filigree {
namespace {

std::vector<std::string>& context_frames() {
  thread_local std::vector<std::string> frames;
  return frames;
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

}  // namespace

Error::Error(const std::string& message, int code)
    : std::runtime_error(message), code_(code), frames_(context_frames()) {}

std::string Error::with_context() const {
  if (frames_.empty()) return what();
  std::string text = str(what(), " (in ");
  for (std::size_t i = 0; i < frames_.size(); ++i) text += (i == 0 ? "" : ", ") + frames_[i];
  return text + ")";
}

ErrorContext::ErrorContext(std::string text) { context_frames().push_back(std::move(text)); }
ErrorContext::~ErrorContext() { context_frames().pop_back(); }

std::string nearest_name(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(2, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const std::size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

namespace detail {
void check_failed(const char* expression, const char* file, int line, const std::string& message) {
  throw InternalError(str("check failed: ", expression, " at ", file, ":", line,
                          message.empty() ? "" : ": ", message));
}
}  // namespace detail

}  // namespace filigree
