#include "runtime/storage/output_file.hpp"

#include <unistd.h>

#include <system_error>
#include <utility>

#include "runtime/core/error.hpp"
#include "runtime/storage/atomic_file.hpp"

namespace filigree {

OutputFile::OutputFile(std::filesystem::path target)
    : target_(std::move(target)), temporary_(target_) {
  temporary_ += str(".tmp.", ::getpid());
  remove();  // of an earlier process with our id
}

OutputFile::~OutputFile() {
  if (!temporary_.empty()) remove();
}

void OutputFile::publish() {
  rename_durably(temporary_, target_);
  temporary_.clear();
}

void OutputFile::remove() const noexcept {
  std::error_code ignored;
  std::filesystem::remove(temporary_, ignored);
}

}  // namespace filigree
