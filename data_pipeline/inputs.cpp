#include <algorithm>

#include "data_pipeline/importer.hpp"
#include "runtime/core/error.hpp"

namespace filigree {
namespace {

namespace fs = std::filesystem;

const ImporterEntry* importer_for(const fs::path& path) {
  const std::string extension = path.extension().string();
  for (const ImporterEntry& entry : importers()) {
    const auto& known = entry.extensions;
    if (std::find(known.begin(), known.end(), extension) != known.end()) return &entry;
  }
  return &importers().front();
}

InputFile input_file(const fs::path& path) {
  return {path, path.string(), static_cast<std::int64_t>(fs::file_size(path)), importer_for(path)};
}

std::vector<fs::path> files_below(const fs::path& folder,
                                  const std::vector<std::string>& extensions) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string extension = entry.path().extension().string();
    const bool wanted =
        std::find(extensions.begin(), extensions.end(), extension) != extensions.end();
    if (wanted && entry.is_regular_file()) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace

std::vector<InputFile> list_inputs(const std::vector<std::string>& inputs,
                                   const std::vector<std::string>& extensions) {
  std::vector<InputFile> files;
  for (const std::string& input : inputs) {
    try {
      if (!fs::exists(input)) throw UserError(str("input ", input, ": no such file or folder"));
      if (!fs::is_directory(input)) {
        files.push_back(input_file(input));
        continue;
      }
      const std::vector<fs::path> below = files_below(input, extensions);
      if (below.empty()) {
        std::string list;
        for (const std::string& extension : extensions)
          list += (list.empty() ? "" : ", ") + extension;
        throw UserError(str("input ", input, ": no file below it ends in ", list,
                            "; --extensions names others"));
      }
      for (const fs::path& path : below) files.push_back(input_file(path));
    } catch (const fs::filesystem_error& error) {
      throw UserError(str("input ", input, ": ", error.code().message()));
    }
  }
  return files;
}

}  // namespace filigree
