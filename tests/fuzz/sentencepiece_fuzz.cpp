#include "conversion/sentencepiece_model.hpp"
#include "runtime/storage/atomic_file.hpp"
#include "tests/fuzz/fuzz_file.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return filigree::testing::fuzz_file(data, size, [](const std::filesystem::path& file) {
    filigree::parse_sentencepiece_model(filigree::read_file(file), file.string());
  });
}
