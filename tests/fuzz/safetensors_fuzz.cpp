#include "conversion/safetensors.hpp"
#include "tests/fuzz/fuzz_file.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return filigree::testing::fuzz_file(data, size, [](const std::filesystem::path& file) {
    const filigree::SafetensorsReader reader(file);
    for (const std::string& name : reader.names()) reader.read(name);
  });
}
