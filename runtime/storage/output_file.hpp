// A file that appears whole or not at all, for what is too large to be one string
// (write_file_atomically).
#pragma once

#include <filesystem>

#include "runtime/storage/temporary_path.hpp"

namespace filigree {

class OutputFile {
 public:
  // Names a temporary file beside `target`, which does not exist yet and goes unless published.
  explicit OutputFile(std::filesystem::path target);

  const std::filesystem::path& path() const { return temporary_.path(); }  // make, write, flush it
  void publish();  // renames to the target, which is replaced. Throws UserError

 private:
  std::filesystem::path target_;
  TemporaryPath temporary_;
};

}  // namespace filigree
