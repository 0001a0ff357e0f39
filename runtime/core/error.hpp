// Errors by who must act on them, and the context frames that say where they happened.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace filigree {

// Joins its arguments as text: str("rank ", 3, " of ", 8).
template <class... Parts>
std::string str(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return std::move(out).str();
}

namespace exit_code {
inline constexpr int kOk = 0;
inline constexpr int kDifferent = 1;  // what was compared is not the same
inline constexpr int kUserError = 2;
inline constexpr int kInternalError = 70;
inline constexpr int kInterrupted = 75;  // checkpointed after a signal: requeue me
inline constexpr int kPeerFailed = 76;   // another rank died or stalled
}  // namespace exit_code

// Base of everything thrown on purpose. frames(): the ErrorContext texts that were open on this
// thread when it was thrown, outermost first.
class Error : public std::runtime_error {
 public:
  Error(const std::string& message, int code);
  int code() const { return code_; }
  const std::vector<std::string>& frames() const { return frames_; }
  // "message (in step 12, layer 3 attention)", for logs.
  std::string with_context() const;

 private:
  int code_;
  std::vector<std::string> frames_;
};

// Configuration, data or environment. The message is one line: what, where, value, what is allowed,
// a hint.
class UserError : public Error {
 public:
  explicit UserError(const std::string& message) : Error(message, exit_code::kUserError) {}
};

// Our bug. Thrown by FILIGREE_CHECK.
class InternalError : public Error {
 public:
  explicit InternalError(const std::string& message) : Error(message, exit_code::kInternalError) {}
};

// Another rank of this job failed; rank() is the one that failed first, as far as known (-1:
// unknown).
class PeerFailed : public Error {
 public:
  PeerFailed(const std::string& message, int rank)
      : Error(message, exit_code::kPeerFailed), rank_(rank) {}
  int rank() const { return rank_; }

 private:
  int rank_;
};

// A collective did not finish in time.
class CollectiveTimeout : public Error {
 public:
  explicit CollectiveTimeout(const std::string& message) : Error(message, exit_code::kPeerFailed) {}
};

// Names what the current thread is doing until it goes out of scope. Diagnostic only.
class ErrorContext {
 public:
  explicit ErrorContext(std::string text);
  ~ErrorContext();
  ErrorContext(const ErrorContext&) = delete;
  ErrorContext& operator=(const ErrorContext&) = delete;
};

// The candidate nearest to `word` by edit distance, or "" when none is near enough to be a likely
// typo.
std::string nearest_name(std::string_view word, const std::vector<std::string>& candidates);

namespace detail {
[[noreturn]] void check_failed(const char* expression, const char* file, int line,
                               const std::string& message);
}  // namespace detail

// Always on. FILIGREE_CHECK(x > 0, "x is ", x);
#define FILIGREE_CHECK(condition, ...)                                 \
  do {                                                                 \
    if (!(condition)) [[unlikely]]                                     \
      ::filigree::detail::check_failed(#condition, __FILE__, __LINE__, \
                                       ::filigree::str(__VA_ARGS__));  \
  } while (false)

// Prints both values. FILIGREE_CHECK_EQ(a.dim(0), b.dim(0), "rows of a and b");
#define FILIGREE_CHECK_EQ(left, right, ...)                                                        \
  do {                                                                                             \
    const auto& filigree_left = (left);                                                            \
    const auto& filigree_right = (right);                                                          \
    if (!(filigree_left == filigree_right)) [[unlikely]]                                           \
      ::filigree::detail::check_failed(#left " == " #right, __FILE__, __LINE__,                    \
                                       ::filigree::str(filigree_left, " != ", filigree_right, " ", \
                                                       ::filigree::str(__VA_ARGS__)));             \
  } while (false)

}  // namespace filigree
