// A folder that appears whole or not at all.
#pragma once

#include <filesystem>
#include <string>

#include "runtime/storage/temporary_path.hpp"

namespace filigree {

class OutputFolder {
 public:
  // Checks that `target` can take its place (absent, empty, or with `overwrite` one that holds the
  // file `marker`, which says that it was made by such a command), and makes a temporary folder
  // beside it, which goes unless published. Throws UserError.
  OutputFolder(const std::filesystem::path& target, bool overwrite, const std::string& marker);

  const std::filesystem::path& path() const { return temporary_.path(); }  // write here
  void publish();                                                          // renames to the target

 private:
  std::filesystem::path target_;
  TemporaryPath temporary_;
};

}  // namespace filigree
