// Every importer; to add one, write importers/NAME.cpp, declare its open function in importer.hpp
// and list it here.
#include "data_pipeline/importer.hpp"

namespace filigree {

const std::vector<ImporterEntry>& importers() {
  static const std::vector<ImporterEntry> entries{
      {"text", "plain text", {".txt", ".rst", ".md"}, open_text},
      {"jsonl", "JSON Lines, one document a line", {".jsonl"}, open_jsonl},
  };
  return entries;
}

}  // namespace filigree
