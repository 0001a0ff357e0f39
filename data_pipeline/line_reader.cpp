#include "data_pipeline/line_reader.hpp"

#include <algorithm>

#include "data_pipeline/utf8.hpp"
#include "runtime/core/error.hpp"
#include "runtime/storage/hash.hpp"

namespace filigree {
namespace {

constexpr std::int64_t kRead = std::int64_t{1} << 18;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

}  // namespace

LineReader::LineReader(const std::filesystem::path& file, std::string shown, std::int64_t longest,
                       InvalidUtf8 policy)
    : file_(PosixFile::open_for_reading(file)),
      shown_(std::move(shown)),
      longest_(static_cast<std::size_t>(longest)),
      policy_(policy),
      size_(file_.size()) {
  FILIGREE_CHECK(longest >= 4, "longest line part: ", longest);
  fill();
  if (std::string_view(buffer_).starts_with(kByteOrderMark)) at_ = kByteOrderMark.size();
}

void LineReader::fill() {
  buffer_.erase(0, at_);
  at_ = 0;
  const std::int64_t bytes = std::min(kRead, size_ - read_);
  const std::size_t before = buffer_.size();
  buffer_.resize(before + static_cast<std::size_t>(bytes));
  file_.read_at(read_, buffer_.data() + before, bytes);
  read_ += bytes;
}

bool LineReader::next(Line& line) {
  std::size_t end = std::string::npos;
  std::size_t searched = at_;
  while (true) {
    const std::size_t newline = buffer_.find('\n', searched);
    if (newline != std::string::npos) end = newline + 1;
    const bool too_long = std::min(end, buffer_.size()) - at_ > longest_;
    if (too_long) {
      const std::string_view part = std::string_view(buffer_).substr(at_, longest_);
      end = at_ + longest_ - utf8_incomplete_suffix(part);
    }
    if (end != std::string::npos) break;
    searched = buffer_.size() - at_;
    if (read_ == size_) {
      end = buffer_.size();
      break;
    }
    fill();
  }
  if (end == at_) return false;
  if (!within_line_) {
    ++line_number_;
    column_ = 0;
  }
  const std::string_view raw = std::string_view(buffer_).substr(at_, end - at_);
  line.begins = !within_line_;
  line.ends = raw.back() == '\n' || (read_ == size_ && end == buffer_.size());
  line.text = valid(raw);
  within_line_ = !line.ends;
  column_ += static_cast<std::int64_t>(raw.size());
  at_ = end;
  return true;
}

std::string_view LineReader::valid(std::string_view raw) {
  const std::size_t prefix = utf8_valid_prefix(raw);
  if (prefix == raw.size()) return raw;
  if (policy_ == InvalidUtf8::refuse) {
    const std::string byte = hex(static_cast<std::uint8_t>(raw[prefix])).substr(14);
    throw UserError(str(shown_, ":", line_number_, ": invalid UTF-8: byte 0x", byte, " at byte ",
                        column_ + static_cast<std::int64_t>(prefix) + 1,
                        " of the line; convert the file (iconv -t UTF-8) or use --invalid-utf8 "
                        "replace"));
  }
  fixed_.clear();
  replaced_ += static_cast<std::int64_t>(append_valid_utf8(raw, fixed_));
  return fixed_;
}

}  // namespace filigree
