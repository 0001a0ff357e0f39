// Log: what a rank has to say, to its own file and, on rank 0, to the console.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "runtime/core/error.hpp"

namespace spdlog {
class logger;
}

namespace filigree {

enum class LogLevel { debug, info, warning, error };

struct LogSettings {
  int rank = 0;
  std::string prefix;               // "[rank 5 data 1 tensor 1]": starts every line of the file
  std::filesystem::path directory;  // of the rank files; empty: no file
  LogLevel console_level = LogLevel::info;
  LogLevel file_level = LogLevel::debug;
};

// Passed to whoever logs; there is no global one. Copies share their sinks. Thread-safe.
//
// The file is <directory>/rank_00005.log, appended to when it exists; a line of it is
//   2026-01-31 12:00:00.123 warning [rank 5 data 1 tensor 1] loss is not finite
// On the console, of rank 0 only, information stands plain on standard output, and warnings and
// errors with their level on standard error. Everything from `info` up is on disk when the call
// returns, so that a killed rank loses nothing.
class Log {
 public:
  // Throws UserError when the directory or the file cannot be made.
  explicit Log(const LogSettings& settings);
  Log();  // console only, as rank 0

  template <class... Parts>
  void debug(const Parts&... parts) const {
    if (enabled(LogLevel::debug)) write(LogLevel::debug, str(parts...));
  }
  template <class... Parts>
  void info(const Parts&... parts) const {
    if (enabled(LogLevel::info)) write(LogLevel::info, str(parts...));
  }
  template <class... Parts>
  void warning(const Parts&... parts) const {
    if (enabled(LogLevel::warning)) write(LogLevel::warning, str(parts...));
  }
  template <class... Parts>
  void error(const Parts&... parts) const {
    if (enabled(LogLevel::error)) write(LogLevel::error, str(parts...));
  }

  // A text of several lines becomes as many lines.
  void write(LogLevel level, std::string_view message) const;
  bool enabled(LogLevel level) const;  // whether any sink takes it

  // The file of a rank in `directory`.
  static std::filesystem::path file_name(const std::filesystem::path& directory, int rank);

 private:
  std::string prefix_;
  std::shared_ptr<spdlog::logger> file_;             // may be null
  std::shared_ptr<spdlog::logger> output_, errors_;  // null except on rank 0
};

}  // namespace filigree
