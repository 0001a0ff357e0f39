// Byte-level tokenizers in the words of others; tests/interop reads them with the others' programs.
#include <map>

#include "conversion/gguf_tokenizer.hpp"
#include "conversion/tokenizer_files.hpp"
#include "runtime/storage/atomic_file.hpp"
#include "tests/conversion/conversion_helpers.hpp"
#include "tests/data_pipeline/byte_level_fixture.hpp"

namespace filigree {
namespace {

using nlohmann::json;
using test::byte_level_json;
using testing::user_error;

class ByteLevelFiles : public testing::FolderTest {
 protected:
  // The tokenizer of a folder with these files; an empty one is none.
  Tokenizer load(const std::string& tokenizer_json, const std::string& tokenizer_config) const {
    write("config.json", json{{"eos_token_id", 257}}.dump());
    if (!tokenizer_config.empty()) write("tokenizer_config.json", tokenizer_config);
    return Tokenizer::load(write("tokenizer.json", tokenizer_json));
  }
  // With ids 257 "<|end|>" and 258 "<|begin|>", both special, and 259 "<x>", which is not.
  static json with_more_tokens(const std::string& words = "llama-bpe") {
    json file = byte_level_json({"a b"}, {}, words);
    file["added_tokens"].push_back({{"id", 258}, {"content", "<|begin|>"}, {"special", true}});
    file["added_tokens"].push_back({{"id", 259}, {"content", "<x>"}, {"special", false}});
    return file;
  }
  // Values without their type, by key.
  std::map<std::string, std::string> described(const Tokenizer& tokenizer,
                                               std::int64_t vocabulary) const {
    GgufWriter writer;
    describe_tokenizer(tokenizer, vocabulary, writer);
    const auto make = [] { return Tensor::zeros(Shape{1}, DType::f32); };
    const std::filesystem::path file = folder_ / "described.gguf";
    std::filesystem::remove(file);
    writer.write(file, {{"a", DType::f32, Shape{1}, make}});
    std::map<std::string, std::string> values;
    const GgufReader reader(file);
    for (const auto& [key, value] : reader.pairs()) values[key] = value.substr(4);
    return values;
  }
};

// Little endian, as GGUF writes numbers.
template <class Number>
std::string bytes_of(Number number) {
  return {reinterpret_cast<const char*>(&number), sizeof(number)};
}
std::string string_of(const std::string& text) {
  return bytes_of<std::uint64_t>(text.size()) + text;
}

TEST_F(ByteLevelFiles, ComeOutAsTheyCame) {
  const std::string original = with_more_tokens().dump(3) + "\n",
                    config = "{\"eos_token\": \"<|end|>\",\n\t\"bos_token\": \"<|begin|>\"}\n";
  const Tokenizer tokenizer = load(original, config);
  std::filesystem::create_directory(folder_ / "out");
  write_tokenizer_files(folder_ / "out", tokenizer, 64);
  EXPECT_EQ(read_file(folder_ / "out/tokenizer.json"), original);
  EXPECT_EQ(read_file(folder_ / "out/tokenizer_config.json"), config);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out/tokenizer.model"));
  EXPECT_EQ(special_ids(tokenizer).begin, 258);
  EXPECT_EQ(special_ids(tokenizer).end, 257);
}

TEST_F(ByteLevelFiles, AShortConfigurationIsWrittenWhereThereWasNone) {
  const Tokenizer tokenizer = load(with_more_tokens().dump(), "");
  write_tokenizer_files(folder_, tokenizer, 64);
  const json config = json::parse(read_file(folder_ / "tokenizer_config.json"));
  EXPECT_EQ(config["eos_token"], "<|end|>");
  EXPECT_EQ(config["model_max_length"], 64);
  EXPECT_EQ(special_ids(tokenizer).begin, 257);
}

TEST_F(ByteLevelFiles, GgufHasTokensMergesAndTypes) {
  const Tokenizer tokenizer =
      load(with_more_tokens().dump(), R"({"bos_token": {"content": "<|begin|>"}})");
  auto values = described(tokenizer, 262);
  EXPECT_EQ(values["tokenizer.ggml.model"], string_of("gpt2"));
  EXPECT_EQ(values["tokenizer.ggml.bos_token_id"], bytes_of<std::uint32_t>(258));
  EXPECT_EQ(values["tokenizer.ggml.eos_token_id"], bytes_of<std::uint32_t>(257));
  EXPECT_FALSE(values.contains("tokenizer.ggml.add_bos_token"));
  EXPECT_FALSE(values.contains("tokenizer.ggml.scores"));
  // An array is its type, its length and its values: 8 for strings, 5 for i32.
  EXPECT_EQ(values["tokenizer.ggml.merges"],
            bytes_of<std::uint32_t>(8) + bytes_of<std::uint64_t>(1) + string_of("a b"));
  std::string types = bytes_of<std::uint32_t>(5) + bytes_of<std::uint64_t>(262);
  for (int id = 0; id < 257; ++id) types += bytes_of<std::int32_t>(1);
  for (const std::int32_t type : {3, 3, 4, 5, 5}) types += bytes_of(type);
  EXPECT_EQ(values["tokenizer.ggml.token_type"], types);
  const std::string last = string_of("ab") + string_of("<|end|>") + string_of("<|begin|>") +
                           string_of("<x>") + string_of("[PAD260]") + string_of("[PAD261]");
  EXPECT_TRUE(values["tokenizer.ggml.tokens"].ends_with(last));
}

TEST_F(ByteLevelFiles, GgufNamesTheWayOfCutting) {
  const auto name_of = [&](const std::string& words, bool ignore_merges) {
    json file = with_more_tokens(words);
    file["model"]["ignore_merges"] = ignore_merges;
    return described(load(file.dump(), R"({"add_bos_token": false})"), 260);
  };
  EXPECT_EQ(name_of("gpt-2", false)["tokenizer.ggml.pre"], string_of("gpt-2"));
  EXPECT_EQ(name_of("qwen2", false)["tokenizer.ggml.pre"], string_of("qwen2"));
  EXPECT_EQ(name_of("llama-bpe", true)["tokenizer.ggml.pre"], string_of("llama-bpe"));
  EXPECT_EQ(name_of("llama-bpe", false)["tokenizer.ggml.pre"], string_of("smaug-bpe"));
  EXPECT_EQ(name_of("qwen2", false)["tokenizer.ggml.add_bos_token"], std::string(1, '\0'));
  const std::string error = user_error([&] { name_of("qwen2", true); });
  EXPECT_NE(error.find("no name for the pre-tokenizer"), std::string::npos) << error;
  EXPECT_NE(error.find("ignore_merges = true"), std::string::npos) << error;
}

}  // namespace
}  // namespace filigree
