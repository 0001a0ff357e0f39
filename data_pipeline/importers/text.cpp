// Plain text: one document per file, or several where the options say a new one begins.
#include "data_pipeline/importer.hpp"
#include "data_pipeline/line_reader.hpp"

namespace filigree {
namespace {

constexpr std::int64_t kPieceBytes = std::int64_t{1} << 16;

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r\n\f\v") == std::string_view::npos;
}

class TextImporter final : public Importer {
 public:
  TextImporter(const std::filesystem::path& file, const std::string& shown,
               const ImportOptions& options)
      : reader_(file, shown, kPieceBytes, options.invalid_utf8), options_(options) {
    more_ = reader_.next(line_);
  }

  bool next(TextPiece& piece) override {
    piece.text.clear();
    piece.ends_document = false;
    if (!more_) return false;
    // line_ belongs to this document: a new one begins only where the last piece said so.
    do {
      count(line_);
      piece.text += line_.text;
      more_ = reader_.next(line_);
      piece.ends_document = !more_ || begins_document(line_);
    } while (!piece.ends_document && static_cast<std::int64_t>(piece.text.size()) < kPieceBytes);
    if (piece.ends_document) lines_ = paragraphs_ = 0;
    return true;
  }
  std::int64_t bytes_read() const override { return reader_.bytes_read(); }
  std::int64_t replaced_bytes() const override { return reader_.replaced_bytes(); }

 private:
  void count(const LineReader::Line& line) {
    if (!line.begins) return;
    ++lines_;
    const bool blank = line.ends && is_blank(line.text);
    if (!blank && after_blank_) ++paragraphs_;
    after_blank_ = blank;
  }
  // Whether the first part of a line starts another document after what has been counted.
  bool begins_document(const LineReader::Line& line) const {
    if (!line.begins) return false;
    if (!options_.document_separator.empty()) {
      return line.text.starts_with(options_.document_separator);
    }
    if (options_.document_lines > 0) return lines_ >= options_.document_lines;
    if (options_.document_paragraphs > 0) {
      return paragraphs_ >= options_.document_paragraphs && after_blank_ &&
             !(line.ends && is_blank(line.text));
    }
    return false;
  }

  LineReader reader_;
  ImportOptions options_;
  LineReader::Line line_;  // the first line that has not been delivered
  bool more_ = false;
  std::int64_t lines_ = 0, paragraphs_ = 0;  // of the current document
  bool after_blank_ = true;
};

}  // namespace

std::unique_ptr<Importer> open_text(const std::filesystem::path& file, const std::string& shown,
                                    const ImportOptions& options) {
  return std::make_unique<TextImporter>(file, shown, options);
}

}  // namespace filigree
