// JSON Lines: one object a line, its text in one field; one document each.
#include <nlohmann/json.hpp>

#include "data_pipeline/importer.hpp"
#include "data_pipeline/line_reader.hpp"
#include "runtime/core/error.hpp"

namespace filigree {
namespace {

constexpr std::int64_t kLongestLine = std::int64_t{256} << 20;

class JsonlImporter final : public Importer {
 public:
  JsonlImporter(const std::filesystem::path& file, const std::string& shown,
                const ImportOptions& options)
      : reader_(file, shown, kLongestLine, options.invalid_utf8), field_(options.text_field) {}

  bool next(TextPiece& piece) override {
    LineReader::Line line;
    do {
      if (!reader_.next(line)) return false;
      if (!line.ends) fail(str("the line is longer than ", kLongestLine, " bytes"));
    } while (line.text.find_first_not_of(" \t\r\n") == std::string_view::npos);
    nlohmann::json object;
    try {
      object = nlohmann::json::parse(line.text);
    } catch (const nlohmann::json::exception& error) {
      fail(str("not JSON: ", error.what()));
    }
    if (!object.is_object()) fail(str("an object is expected, found: ", object.type_name()));
    const auto found = object.find(field_);
    if (found == object.end()) {
      std::vector<std::string> names;
      for (const auto& [name, value] : object.items()) names.push_back(name);
      const std::string near = nearest_name(field_, names);
      fail(str("no field '", field_, "'", near.empty() ? "" : str("; did you mean '", near, "'?"),
               " (--text-field names it)"));
    }
    if (!found->is_string())
      fail(str("field '", field_, "' is ", found->type_name(), ", not a string"));
    piece.text = std::move(found->get_ref<std::string&>());
    piece.ends_document = true;
    return true;
  }
  std::int64_t bytes_read() const override { return reader_.bytes_read(); }
  std::int64_t replaced_bytes() const override { return reader_.replaced_bytes(); }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw UserError(str(reader_.shown(), ":", reader_.line_number(), ": ", what));
  }

  LineReader reader_;
  std::string field_;
};

}  // namespace

std::unique_ptr<Importer> open_jsonl(const std::filesystem::path& file, const std::string& shown,
                                     const ImportOptions& options) {
  return std::make_unique<JsonlImporter>(file, shown, options);
}

}  // namespace filigree
