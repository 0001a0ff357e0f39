// Lines of a file, with their numbers, in bounded memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "data_pipeline/importer.hpp"
#include "runtime/storage/posix_file.hpp"

namespace filigree {

class LineReader {
 public:
  // Lines longer than `longest` are delivered in parts of about that size.
  LineReader(const std::filesystem::path& file, std::string shown, std::int64_t longest,
             InvalidUtf8 policy);

  struct Line {
    std::string_view text;            // valid UTF-8 with its newline; valid until the next call
    bool begins = true, ends = true;  // false where a long line was divided
  };
  // False at the end. Invalid UTF-8 is refused, naming file, line and byte, or replaced, as the
  // policy says. A byte order mark at the file's start is dropped.
  bool next(Line& line);

  std::int64_t line_number() const { return line_number_; }  // of the latest line, from 1
  std::int64_t bytes_read() const { return read_; }
  std::int64_t replaced_bytes() const { return replaced_; }
  const std::string& shown() const { return shown_; }

 private:
  void fill();
  std::string_view valid(std::string_view raw);

  PosixFile file_;
  std::string shown_;
  std::size_t longest_;
  InvalidUtf8 policy_;
  std::string buffer_, fixed_;
  std::size_t at_ = 0;  // of buffer_, where the next line begins
  std::int64_t size_ = 0, read_ = 0;
  std::int64_t line_number_ = 0;
  std::int64_t column_ = 0;  // byte of the line where the next part begins
  std::int64_t replaced_ = 0;
  bool within_line_ = false;
};

}  // namespace filigree
