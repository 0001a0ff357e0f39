// A file that appears whole or not at all, for what is too large to be one string
// (write_file_atomically).
#pragma once

#include <filesystem>

namespace filigree {

class OutputFile {
 public:
  // Names a temporary file beside `target`, which does not exist yet.
  explicit OutputFile(std::filesystem::path target);
  ~OutputFile();  // removes the temporary file unless it was published
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  const std::filesystem::path& path() const { return temporary_; }  // make it, write it, flush it
  void publish();  // renames to the target, which is replaced. Throws UserError

 private:
  void remove() const noexcept;

  std::filesystem::path target_, temporary_;
};

}  // namespace filigree
