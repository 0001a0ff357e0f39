// Importers turn files into documents of valid UTF-8, in pieces of bounded size.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace filigree {

enum class InvalidUtf8 : std::uint8_t { refuse, replace };  // replace: U+FFFD for each bad byte

struct ImportOptions {
  InvalidUtf8 invalid_utf8 = InvalidUtf8::refuse;
  std::string text_field = "text";  // of JSON Lines
  // Where documents begin inside a text file; at most one of the three is set. None: one document
  // per file.
  std::string document_separator;   // at every line that begins so
  std::int64_t document_lines = 0;  // after every so many lines
  std::int64_t document_paragraphs =
      0;  // after every so many paragraphs (text between blank lines)
};

// A part of a document.
struct TextPiece {
  std::string text;  // valid UTF-8; pieces end at characters
  bool ends_document = false;
};

// One file, read once from front to back. Errors are UserErrors that name file and line.
class Importer {
 public:
  virtual ~Importer() = default;
  // False at the end of the file; the last piece before it ends a document.
  virtual bool next(TextPiece& piece) = 0;
  virtual std::int64_t bytes_read() const = 0;
  virtual std::int64_t replaced_bytes() const = 0;  // invalid UTF-8 that became U+FFFD
};

struct ImporterEntry {
  std::string_view name;                     // "text"
  std::string_view summary;                  // for --help
  std::vector<std::string_view> extensions;  // with the dot
  // `shown` is the name for messages.
  std::unique_ptr<Importer> (*open)(const std::filesystem::path& file, const std::string& shown,
                                    const ImportOptions& options);
};

// registry.cpp: every importer. The first one also takes files of unknown extension.
const std::vector<ImporterEntry>& importers();

// data_pipeline/importers/, one file each.
std::unique_ptr<Importer> open_text(const std::filesystem::path& file, const std::string& shown,
                                    const ImportOptions& options);
std::unique_ptr<Importer> open_jsonl(const std::filesystem::path& file, const std::string& shown,
                                     const ImportOptions& options);

// A file to import.
struct InputFile {
  std::filesystem::path path;
  std::string shown;
  std::int64_t bytes = 0;
  const ImporterEntry* importer = nullptr;
};

// The files that `inputs` name, in order: files as they are; folders stand for the files below
// them, sorted by path, that have one of the extensions. Throws UserError for what does not exist
// or holds nothing.
std::vector<InputFile> list_inputs(const std::vector<std::string>& inputs,
                                   const std::vector<std::string>& extensions);

}  // namespace filigree
