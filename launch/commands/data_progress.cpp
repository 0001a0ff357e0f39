#include "launch/commands/data_progress.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <iostream>

#include "runtime/core/error.hpp"

namespace filigree {
namespace {

template <class... Values>
std::string formatted(const char* format, Values... values) {
  char buffer[96];
  std::snprintf(buffer, sizeof buffer, format, values...);
  return buffer;
}

}  // namespace

ProgressLine::ProgressLine()
    : terminal_(::isatty(STDERR_FILENO) == 1),
      phase_start_(Clock::now()),
      last_print_(Clock::now()) {}

ProgressLine::~ProgressLine() {
  if (terminal_ && printed_width_ > 0) std::cerr << "\n";
}

void ProgressLine::update(std::string_view phase, std::int64_t done_bytes,
                          std::int64_t total_bytes) {
  const Clock::time_point now = Clock::now();
  const bool new_phase = phase != phase_;
  if (new_phase) {
    phase_ = phase;
    phase_start_ = now;
  }
  const auto interval = std::chrono::seconds(terminal_ ? 1 : 10);
  const bool announce = new_phase && total_bytes == 0;
  if (!announce && now - last_print_ < interval) return;
  last_print_ = now;
  if (total_bytes == 0) return print(phase_);

  const double seconds = std::chrono::duration<double>(now - phase_start_).count();
  const double rate = static_cast<double>(done_bytes) / std::max(seconds, 1e-3);
  std::string text = str(phase_, "  ", bytes_text(done_bytes), " of ", bytes_text(total_bytes),
                         "  ", bytes_text(static_cast<std::int64_t>(rate)), "/s");
  if (rate > 0) {
    text += str("  ETA ", duration_text(static_cast<double>(total_bytes - done_bytes) / rate));
  }
  print(text);
}

void ProgressLine::print(const std::string& text) {
  if (!terminal_) {
    std::cerr << text << "\n";
    return;
  }
  const std::size_t padding = printed_width_ > text.size() ? printed_width_ - text.size() : 0;
  std::cerr << "\r" << text << std::string(padding, ' ') << std::flush;
  printed_width_ = text.size();
}

std::string bytes_text(std::int64_t bytes) {
  constexpr std::array<const char*, 5> kUnits{"B", "kB", "MB", "GB", "TB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1000 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  return formatted(unit == 0 ? "%.0f %s" : "%.2f %s", value, kUnits[unit]);
}

std::string duration_text(double seconds) {
  if (seconds < 60) return formatted("%.1f s", seconds);
  const auto whole = static_cast<std::int64_t>(seconds + 0.5);
  if (whole < 3600) return formatted("%d min %02d s", int(whole / 60), int(whole % 60));
  return formatted("%lld h %02d min", static_cast<long long>(whole / 3600), int(whole / 60 % 60));
}

std::string count_text(std::int64_t count) {
  std::string text = std::to_string(count);
  const std::ptrdiff_t first = count < 0 ? 1 : 0;
  for (auto at = static_cast<std::ptrdiff_t>(text.size()) - 3; at > first; at -= 3) {
    text.insert(static_cast<std::size_t>(at), 1, ',');
  }
  return text;
}

}  // namespace filigree
