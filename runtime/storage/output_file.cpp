#include "runtime/storage/output_file.hpp"

#include <utility>

#include "runtime/storage/atomic_file.hpp"

namespace filigree {

OutputFile::OutputFile(std::filesystem::path target)
    : target_(std::move(target)), temporary_(target_) {}

void OutputFile::publish() {
  temporary_.publish([this] { rename_durably(path(), target_); });
}

}  // namespace filigree
