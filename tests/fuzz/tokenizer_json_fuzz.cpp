#include "data_pipeline/byte_level_bpe_file.hpp"
#include "data_pipeline/tokenizer_model.hpp"
#include "runtime/storage/atomic_file.hpp"
#include "tests/fuzz/fuzz_file.hpp"

namespace filigree {
namespace {

struct Encoder final : WordSink {
  explicit Encoder(const TokenizerModel& of) : model(of) {}
  void word(std::string_view text) override { model.append_ids(text, ids); }
  void token(std::int32_t id) override { ids.push_back(id); }

  const TokenizerModel& model;
  std::vector<std::int32_t> ids;
};

// Words of many kinds, and a run in which a bad expression finds many ways.
std::string text() {
  return "The  don't 1234\n\n \xC3\xA9 e\xCC\x81\r\n\xE6\xBC\xA2<x>" + std::string(200, 'a') +
         "\t!";
}

void encode(const std::filesystem::path& file) {
  std::string bytes = read_file(file);
  if (!has_end_of_document(bytes)) bytes = with_end_of_document(bytes, file);
  const auto model = byte_level_bpe_tokenizer(bytes, file.string());
  Encoder encoder(*model);
  const auto splitter = model->splitter();
  splitter->push(text(), encoder);
  splitter->finish(encoder);
  for (const std::int32_t id : encoder.ids)
    if (id < 0 || id >= std::ssize(model->tokens())) std::abort();
}

}  // namespace
}  // namespace filigree

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return filigree::testing::fuzz_file(data, size, filigree::encode);
}
