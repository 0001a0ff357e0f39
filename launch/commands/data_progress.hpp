// Progress of the data commands on standard error.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace filigree {

// On a terminal one line that is rewritten every second, otherwise a new line every ten. Work that
// is over sooner prints nothing.
class ProgressLine {
 public:
  ProgressLine();
  ~ProgressLine();  // ends the line
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // total_bytes 0: not known; such a phase is announced once.
  void update(std::string_view phase, std::int64_t done_bytes, std::int64_t total_bytes);

 private:
  using Clock = std::chrono::steady_clock;
  void print(const std::string& text);

  bool terminal_;
  std::string phase_;
  Clock::time_point phase_start_, last_print_;
  std::size_t printed_width_ = 0;
};

std::string bytes_text(std::int64_t bytes);  // "4.40 MB"
std::string duration_text(double seconds);   // "1.9 s", "3 min 05 s"
std::string count_text(std::int64_t count);  // "1,337,734"

}  // namespace filigree
