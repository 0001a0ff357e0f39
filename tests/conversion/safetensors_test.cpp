// safetensors files: what is written is read back, and whatever a stranger wrote instead is one
// clear error.
#include "conversion/safetensors.hpp"

#include <cstring>
#include <vector>

#include "conversion/weight_files.hpp"
#include "runtime/storage/atomic_file.hpp"
#include "tests/conversion/conversion_helpers.hpp"

namespace filigree {
namespace {

using testing::random_bits;
using testing::same_bits;
using testing::user_error;

class Safetensors : public testing::HostileFileTest {
 protected:
  std::filesystem::path file() const { return folder_ / "model.safetensors"; }

  // A file with this header and as many bytes of values.
  void write(const std::string& header, std::size_t values) const {
    write_with_length(header.size(), header, values);
  }
  void write_with_length(std::uint64_t length, const std::string& header,
                         std::size_t values) const {
    std::string bytes(sizeof(length), '\0');
    std::memcpy(bytes.data(), &length, sizeof(length));
    write_file_atomically(file(), bytes + header + std::string(values, 'v'));
  }
  std::string refusal() const {
    return user_error([&] { SafetensorsReader reader(file()); });
  }
  // The error names the file, and holds these words.
  void expect_refused(const std::string& header, std::size_t values,
                      const std::vector<std::string>& words) const {
    write(header, values);
    const std::string error = refusal();
    EXPECT_NE(error.find(file().string()), std::string::npos) << error;
    for (const std::string& word : words)
      EXPECT_NE(error.find(word), std::string::npos) << word << " in: " << error;
    EXPECT_EQ(error.find('\n'), std::string::npos) << error;
  }
};

TEST_F(Safetensors, WhatIsWrittenIsReadBack) {
  const std::vector<std::pair<SafetensorsSlot, std::uint64_t>> slots = {
      {{"a.weight", DType::f32, {3, 5}}, 1}, {{"scalar", DType::f64, {}}, 2},
      {{"empty", DType::bf16, {0, 7}}, 3},   {{"half", DType::f16, {9}}, 4},
      {{"brain", DType::bf16, {2, 2}}, 5},   {{"ids", DType::i32, {3}}, 6},
      {{"cells", DType::u8, {2, 3, 1}}, 7}};
  std::vector<SafetensorsSlot> declared;
  for (const auto& [slot, seed] : slots) declared.push_back(slot);
  SafetensorsWriter writer(file(), declared);
  for (const auto& [slot, seed] : slots) writer.write(random_bits(slot.shape, slot.dtype, seed));
  writer.close();

  const SafetensorsReader reader(file());
  EXPECT_EQ(reader.names().size(), slots.size());
  EXPECT_EQ(reader.metadata().at("format"), "pt");
  for (const auto& [slot, seed] : slots)
    EXPECT_TRUE(same_bits(reader.read(slot.name), random_bits(slot.shape, slot.dtype, seed)))
        << slot.name;
  const Tensor all = reader.read("a.weight");
  EXPECT_TRUE(same_bits(reader.read_rows("a.weight", 1, 3), all.rows(1, 3)));
  EXPECT_TRUE(same_bits(reader.read_rows("a.weight", 0, 0), all.rows(0, 0)));
  EXPECT_EQ(reader.read_rows("empty", 0, 0).shape(), (Shape{0, 7}));
  // The values start at a multiple of 8, as Hugging Face's own writer has it.
  const std::string bytes = read_file(file());
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof(length));
  EXPECT_EQ(length % 8, 0u);
}

TEST_F(Safetensors, TheExampleOfTheFormatIsRead) {
  write(R"({"x":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},"__metadata__":{"k":"v"}}   )",
        8);
  const SafetensorsReader reader(file());
  EXPECT_EQ(reader.shape("x"), (Shape{1, 2}));
  EXPECT_EQ(reader.metadata().at("k"), "v");
  std::uint32_t bits = 0;
  std::memcpy(&bits, reader.read("x").raw(), sizeof(bits));
  EXPECT_EQ(bits, 0x76767676u);
  EXPECT_NE(user_error([&] { reader.read("y"); }).find("no tensor 'y'"), std::string::npos);
}

TEST_F(Safetensors, HeadersThatCannotBe) {
  write_file_atomically(file(), "short");
  EXPECT_NE(refusal().find("5 bytes"), std::string::npos) << refusal();
  write_with_length(~std::uint64_t{0}, "{}", 0);
  EXPECT_NE(refusal().find("18446744073709551615 bytes"), std::string::npos) << refusal();
  write_with_length(1000, "{}", 10);
  EXPECT_NE(refusal().find("cut short"), std::string::npos) << refusal();
  expect_refused("", 0, {"does not begin with '{'"});
  expect_refused("[1]", 0, {"does not begin with '{'"});
  expect_refused("{\"a\":", 0, {"no JSON"});
  expect_refused(std::string(200000, '{'), 0, {"no JSON"});
  expect_refused("{\"a\":" + std::string(200000, '['), 0, {"nested"});
  const std::string deep = std::string(200000, '[') + std::string(200000, ']');
  expect_refused(R"({"a":{"dtype":"F32","shape":)" + deep + "}}", 0, {"nested"});
  expect_refused(R"({"a":1})", 0, {"tensor 'a'", "no object"});
  expect_refused(R"({"__metadata__":{"a":1}})", 0, {"__metadata__", "'a'"});
  expect_refused(R"({"__metadata__":[]})", 0, {"__metadata__"});
  expect_refused("{\"\xff\":1}", 0, {"no JSON"});
  expect_refused("{\"a\\nb\":1}", 0, {"control character"});
  expect_refused("{\"" + std::string(5000, 'k') + "\":1}", 0, {"5000 bytes"});
}

TEST_F(Safetensors, EntriesThatCannotBe) {
  const auto entry = [](const std::string& dtype, const std::string& shape,
                        const std::string& offsets) {
    return "{\"w\":{\"dtype\":" + dtype + ",\"shape\":" + shape + ",\"data_offsets\":" + offsets +
           "}}";
  };
  expect_refused(entry("\"F32\"", "[2]", "[0,8]"), 7, {"'w'", "[0,8]", "7 bytes"});
  expect_refused(entry("\"F32\"", "[2]", "[8,0]"), 8, {"'w'", "[8,0]"});
  expect_refused(entry("\"F32\"", "[2]", "[0,8,9]"), 9, {"'w'"});
  expect_refused(entry("\"F32\"", "[3]", "[0,8]"), 8, {"'w'", "F32", "[3]"});
  expect_refused(entry("\"F33\"", "[2]", "[0,8]"), 8, {"'w'", "F33"});
  expect_refused(entry("4", "[2]", "[0,8]"), 8, {"'w'", "dtype"});
  expect_refused(entry("\"F32\"", "[-2]", "[0,8]"), 8, {"'w'", "-2"});
  expect_refused(entry("\"F32\"", "[2.0]", "[0,8]"), 8, {"'w'", "2.0"});
  expect_refused(entry("\"F32\"", "2", "[0,8]"), 8, {"'w'", "shape"});
  expect_refused(entry("\"F32\"", "[2]", "[0,1e400]"), 8, {"no JSON"});
  expect_refused(entry("\"F32\"", "[2]", "[0,18446744073709551615]"), 8, {"'w'"});
  // A product of sizes that wraps around to 8 bytes.
  expect_refused(entry("\"F32\"", "[4294967296,4294967296,2]", "[0,8]"), 8, {"'w'"});
  expect_refused(entry("\"F32\"", "[1,1,1,1,1,1,2]", "[0,8]"), 8, {"'w'", "7 dims"});
  expect_refused(R"({"w":{"dtype":"F32","shape":[2]}})", 8, {"'w'", "data_offsets"});
}

TEST_F(Safetensors, PlacesThatCannotBe) {
  const auto two = [](const std::string& first, const std::string& second) {
    return R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + first +
           R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + second + "}}";
  };
  expect_refused(two("[0,4]", "[2,6]"), 8, {"'b'", "overlap"});
  expect_refused(two("[0,4]", "[0,4]"), 4, {"overlap"});
  expect_refused(two("[0,4]", "[5,9]"), 9, {"'b'", "gap"});
  expect_refused(two("[1,5]", "[5,9]"), 9, {"'a'", "gap"});
  expect_refused(two("[0,4]", "[4,8]"), 9, {"1 bytes before"});
  expect_refused(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                 R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                 1, {"'a'", "twice"});
  expect_refused(R"({"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1,
                 {"'dtype' twice"});
}

TEST_F(Safetensors, TypesThatAreNotReadAreNamed) {
  write(R"({"q":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}})", 2);
  const SafetensorsReader reader(file());
  const std::string error = user_error([&] { reader.read("q"); });
  EXPECT_NE(error.find("'q' is F8_E4M3"), std::string::npos) << error;
}

TEST_F(Safetensors, NoChangedFileDoesHarm) {
  SafetensorsWriter writer(file(), {{"first.weight", DType::f32, {2, 3}},
                                    {"second.weight", DType::bf16, {4}},
                                    {"third", DType::u8, {5}}});
  writer.write(random_bits({2, 3}, DType::f32, 1));
  writer.write(random_bits({4}, DType::bf16, 2));
  writer.write(random_bits({5}, DType::u8, 3));
  writer.close();
  expect_no_harm(read_file(file()), [](const std::filesystem::path& changed) {
    const SafetensorsReader reader(changed);
    for (const std::string& name : reader.names()) reader.read(name);
  });
}

std::vector<PromisedTensor> three_tensors(std::uint64_t seed = 0) {
  std::vector<PromisedTensor> tensors;
  for (const std::int64_t rows : {4, 8, 2})
    tensors.push_back(
        {str("w", rows), DType::f32, {rows, 10}, [rows, seed] {
           return random_bits({rows, 10}, DType::f32, seed + static_cast<std::uint64_t>(rows));
         }});
  return tensors;
}

class WeightFiles : public testing::FolderTest {};

TEST_F(WeightFiles, OneFileOrSeveralHoldTheSame) {
  EXPECT_EQ(write_weights(folder_, "model", three_tensors(), 1000), 1);
  EXPECT_TRUE(std::filesystem::exists(folder_ / "model.safetensors"));
  verify_weights(folder_, "model", three_tensors());
  std::filesystem::remove(folder_ / "model.safetensors");
  // 160 + 320 + 80 bytes: the second is larger than a shard may be and stands alone.
  EXPECT_EQ(write_weights(folder_, "model", three_tensors(), 240), 3);
  EXPECT_TRUE(std::filesystem::exists(folder_ / "model-00003-of-00003.safetensors"));
  verify_weights(folder_, "model", three_tensors());
  const WeightFolder weights(folder_);
  EXPECT_EQ(weights.names(), (std::vector<std::string>{"w2", "w4", "w8"}));
  for (const PromisedTensor& tensor : three_tensors())
    EXPECT_TRUE(same_bits(weights.read(tensor.name), tensor.make()));
}

TEST_F(WeightFiles, VerificationNamesTheTensorThatDiffers) {
  write_weights(folder_, "model", three_tensors(), 1000);
  auto other = three_tensors();
  other[1].make = [make = other[1].make] {
    const Tensor values = make();
    static_cast<std::uint8_t*>(values.raw())[17] ^= 1;
    return values;
  };
  const std::string error = user_error([&] { verify_weights(folder_, "model", other); });
  EXPECT_NE(error.find("'w8'"), std::string::npos) << error;
  other = three_tensors();
  other.pop_back();
  EXPECT_NE(user_error([&] { verify_weights(folder_, "model", other); }).find("3 tensors"),
            std::string::npos);
}

TEST_F(WeightFiles, AnIndexIsNotBelieved) {
  write_weights(folder_, "model", three_tensors(), 240);
  const auto refusal = [&](const std::string& map) {
    write_file_atomically(folder_ / "model.safetensors.index.json", map);
    return user_error([&] { WeightFolder weights(folder_); });
  };
  EXPECT_NE(refusal("{").find("no JSON"), std::string::npos);
  EXPECT_NE(refusal("[]").find("weight_map"), std::string::npos);
  const std::string deep = std::string(200000, '[') + std::string(200000, ']');
  EXPECT_NE(refusal(R"({"weight_map":{"w4":)" + deep + "}}").find("nested"), std::string::npos);
  EXPECT_NE(refusal(R"({"weight_map":{"w4":"../model.safetensors"}})").find("'w4'"),
            std::string::npos);
  EXPECT_NE(refusal(R"({"weight_map":{"w4":3}})").find("'w4'"), std::string::npos);
  EXPECT_NE(refusal(R"({"weight_map":{"w9":"model-00001-of-00003.safetensors"}})").find("'w9'"),
            std::string::npos);
  EXPECT_NE(refusal(R"({"weight_map":{"w4":"absent.safetensors"}})").find("absent.safetensors"),
            std::string::npos);
  std::filesystem::remove_all(folder_);
  std::filesystem::create_directories(folder_);
  write_file_atomically(folder_ / "pytorch_model.bin", "x");
  EXPECT_NE(user_error([&] { WeightFolder weights(folder_); }).find("pickle"), std::string::npos);
}

}  // namespace
}  // namespace filigree
