#include "runtime/core/log.hpp"

#include <spdlog/logger.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <cstdio>

namespace filigree {
namespace {

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::debug:
      return spdlog::level::debug;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::warning:
      return spdlog::level::warn;
    case LogLevel::error:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

std::shared_ptr<spdlog::logger> make_logger(spdlog::sink_ptr sink, LogLevel level,
                                            const std::string& pattern) {
  // Not registered with spdlog: its registry is a global.
  auto logger = std::make_shared<spdlog::logger>("filigree", std::move(sink));
  logger->set_level(spdlog_level(level));
  logger->flush_on(spdlog::level::info);
  logger->set_pattern(pattern);
  return logger;
}

std::shared_ptr<spdlog::logger> open_file(const LogSettings& settings) {
  const std::filesystem::path path = Log::file_name(settings.directory, settings.rank);
  try {
    std::filesystem::create_directories(settings.directory);
    return make_logger(std::make_shared<spdlog::sinks::basic_file_sink_mt>(path.string()),
                       settings.file_level, "%Y-%m-%d %H:%M:%S.%e %l %v");
  } catch (const std::filesystem::filesystem_error& error) {
    throw UserError(str("cannot make the log directory '", settings.directory.string(),
                        "': ", error.code().message()));
  } catch (const spdlog::spdlog_ex& error) {
    throw UserError(str("cannot write the log file '", path.string(), "': ", error.what()));
  }
}

}  // namespace

std::filesystem::path Log::file_name(const std::filesystem::path& directory, int rank) {
  char name[32];
  std::snprintf(name, sizeof name, "rank_%05d.log", rank);
  return directory / name;
}

Log::Log() : Log(LogSettings{}) {}

Log::Log(const LogSettings& settings)
    : prefix_(settings.prefix.empty() ? "" : settings.prefix + " ") {
  if (!settings.directory.empty()) file_ = open_file(settings);
  if (settings.rank != 0) return;
  output_ =
      make_logger(std::make_shared<spdlog::sinks::stdout_sink_mt>(), settings.console_level, "%v");
  errors_ = make_logger(std::make_shared<spdlog::sinks::stderr_sink_mt>(), settings.console_level,
                        "filigree: %l: %v");
}

bool Log::enabled(LogLevel level) const {
  const auto value = spdlog_level(level);
  return (file_ && file_->should_log(value)) || (output_ && output_->should_log(value));
}

void Log::write(LogLevel level, std::string_view message) const {
  const auto value = spdlog_level(level);
  const auto& console = level >= LogLevel::warning ? errors_ : output_;
  while (!message.empty()) {
    const std::size_t end = message.find('\n');
    const std::string line(message.substr(0, end));
    if (file_) file_->log(value, spdlog::string_view_t(prefix_ + line));
    if (console) console->log(value, spdlog::string_view_t(line));
    message.remove_prefix(end == std::string_view::npos ? message.size() : end + 1);
  }
}

}  // namespace filigree
