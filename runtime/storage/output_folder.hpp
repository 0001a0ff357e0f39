// A folder that appears whole or not at all.
#pragma once

#include <filesystem>
#include <string>

namespace filigree {

class OutputFolder {
 public:
  // Checks that `target` can take its place (absent, empty, or with `overwrite` one that holds the
  // file `marker`, which says that it was made by such a command), and makes a temporary folder
  // beside it. Throws UserError.
  OutputFolder(const std::filesystem::path& target, bool overwrite, const std::string& marker);
  ~OutputFolder();  // removes the temporary folder unless it was published
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  const std::filesystem::path& path() const { return temporary_; }  // write here
  void publish();                                                   // renames to the target

 private:
  std::filesystem::path target_, temporary_;
};

}  // namespace filigree
