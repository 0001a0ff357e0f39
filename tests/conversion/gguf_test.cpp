// GGUF files: what is written is read back, and files of strangers are refused with a reason.
#include "conversion/gguf.hpp"

#include "runtime/storage/atomic_file.hpp"
#include "tests/conversion/conversion_helpers.hpp"

namespace filigree {
namespace {

using testing::user_error;

// Bytes of a header, one value after the other.
class Bytes {
 public:
  template <class T>
  Bytes& add(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
    return *this;
  }
  Bytes& u32(std::uint32_t value) { return add(value); }
  Bytes& u64(std::uint64_t value) { return add(value); }
  Bytes& raw(const std::string& text) {
    bytes_ += text;
    return *this;
  }
  Bytes& text(const std::string& text) { return u64(text.size()).raw(text); }
  // A tensor's entry: f32 unless said otherwise.
  Bytes& tensor(const std::string& name, std::vector<std::uint64_t> dims, std::uint64_t offset,
                std::uint32_t type = 0) {
    text(name).u32(static_cast<std::uint32_t>(dims.size()));
    for (const std::uint64_t dim : dims) u64(dim);
    return u32(type).u64(offset);
  }
  // The rest of the header's last 32 bytes, and bytes of values.
  std::string end(std::size_t values = 0) const {
    return bytes_ + std::string((32 - bytes_.size() % 32) % 32 + values, 'v');
  }

 private:
  std::string bytes_;
};

Bytes header(std::uint64_t tensors, std::uint64_t pairs) {
  return Bytes().raw("GGUF").u32(3).u64(tensors).u64(pairs);
}

class Gguf : public testing::HostileFileTest {
 protected:
  std::filesystem::path file() const { return folder_ / "model.gguf"; }
  void expect_refused(const std::string& bytes, const std::vector<std::string>& words) {
    write_file_atomically(file(), bytes);
    const std::string error = user_error([&] { GgufReader reader(file()); });
    EXPECT_EQ(error.find('\n'), std::string::npos) << error;
    EXPECT_NE(error.find("model.gguf"), std::string::npos) << error;
    for (const std::string& word : words)
      EXPECT_NE(error.find(word), std::string::npos) << word << " in: " << error;
  }
};

GgufWriter some_pairs() {
  GgufWriter writer;
  const std::vector<std::string> texts{"a", "", "ccc"};
  const std::vector<float> numbers{1.5f, -2.0f};
  const std::vector<std::int32_t> types{1, 2, 3};
  writer.add("general.architecture", std::string_view("llama"));
  writer.add("count", 7u);
  writer.add("eps", 1e-5f);
  writer.add("flag", true);
  writer.add("texts", std::span<const std::string>(texts));
  writer.add("numbers", std::span<const float>(numbers));
  writer.add("types", std::span<const std::int32_t>(types));
  return writer;
}

std::vector<PromisedTensor> some_tensors() {
  const auto promised = [](const char* name, DType dtype, const Shape& shape, std::uint64_t seed) {
    return PromisedTensor{name, dtype, shape,
                          [=] { return testing::random_bits(shape, dtype, seed); }};
  };
  return {promised("a.weight", DType::f32, {3, 5}, 1), promised("b.weight", DType::f16, {7}, 2),
          promised("c.weight", DType::bf16, {2, 3, 4}, 3)};
}

TEST_F(Gguf, WhatIsWrittenIsReadBack) {
  const GgufWriter writer = some_pairs();
  writer.write(file(), some_tensors());
  const GgufReader reader(file());
  EXPECT_EQ(reader.names(), (std::vector<std::string>{"a.weight", "b.weight", "c.weight"}));
  for (const PromisedTensor& tensor : some_tensors())
    EXPECT_TRUE(testing::same_bits(reader.read(tensor.name), tensor.make())) << tensor.name;
  ASSERT_EQ(reader.pairs().size(), 7u);
  EXPECT_EQ(reader.pairs()[1].first, "count");
  EXPECT_EQ(reader.pairs()[1].second, std::string("\4\0\0\0\7\0\0\0", 8));  // u32, 7
  EXPECT_NE(user_error([&] { reader.read("d"); }).find("no tensor 'd'"), std::string::npos);
  writer.verify(file(), some_tensors());
}

TEST_F(Gguf, VerificationNamesWhatDiffers) {
  some_pairs().write(file(), some_tensors());
  auto other = some_tensors();
  other[1].make = [] { return testing::random_bits({7}, DType::f16, 9); };
  EXPECT_NE(user_error([&] { some_pairs().verify(file(), other); }).find("'b.weight'"),
            std::string::npos);
  GgufWriter more = some_pairs();
  more.add("more", 1u);
  EXPECT_NE(user_error([&] { more.verify(file(), some_tensors()); }).find("the header"),
            std::string::npos);
}

TEST_F(Gguf, HeadersThatCannotBe) {
  expect_refused("GG", {"do not fit into the 2 bytes"});
  expect_refused("GGML" + std::string(40, '\0'), {"does not begin with GGUF"});
  expect_refused(Bytes().raw("GGUF").u32(2).u64(0).u64(0).end(), {"version 2"});
  const std::uint64_t huge = ~std::uint64_t{0};
  expect_refused(header(huge, 0).end(), {"the tensors", "18446744073709551615"});
  expect_refused(header(0, huge / 13).end(), {"the keys"});
  expect_refused(header(0, 1).u64(huge).end(32), {"a key"});
  expect_refused(header(0, 1).text("k").u32(8).u64(1000).end(), {"the value of 'k'", "1000"});
  expect_refused(header(0, 1).text("k").u32(13).end(), {"'k'", "type 13"});
  expect_refused(header(0, 1).text("k").u32(9).u32(4).u64(huge / 2).end(), {"the list of 'k'"});
  expect_refused(header(0, 1).text("k").u32(9).u32(9).u64(1).u32(9).u64(1).end(),
                 {"'k'", "lists do not hold lists"});
  expect_refused(header(0, 1).text("k").u32(9).u32(77).u64(0).end(), {"'k'", "type 77"});
  expect_refused(header(0, 1).text("a\nb").u32(4).u32(1).end(), {"control character"});
  expect_refused(header(0, 1).text(std::string(5000, 'k')).u32(4).u32(1).end(), {"5000 bytes"});
  expect_refused(header(0, 2).text("k").u32(4).u32(1).text("k").u32(4).u32(1).end(),
                 {"'k'", "twice"});
  for (const std::uint32_t alignment : {0u, 4u, 33u})
    expect_refused(header(0, 1).text("general.alignment").u32(4).u32(alignment).end(),
                   {"general.alignment = ", "power of two"});
}

TEST_F(Gguf, TensorsThatCannotBe) {
  const std::uint64_t huge = std::uint64_t{1} << 62;
  expect_refused(header(1, 0).tensor("t", {1, 1, 1, 1, 1}, 0).end(64), {"'t'", "5 dims"});
  expect_refused(header(1, 0).tensor("t", {huge, huge}, 0).end(64), {"'t'", "size"});
  expect_refused(header(1, 0).tensor("t", {huge * 3}, 0).end(64), {"'t'", "size"});
  expect_refused(header(1, 0).tensor("t", {0}, 0).end(64), {"'t'", "size of 0"});
  expect_refused(header(1, 0).tensor("t", {4}, 0, 12).end(64), {"'t'", "type 12"});
  expect_refused(header(1, 0).tensor("t", {17}, 0).end(64), {"'t'", "ends at byte"});
  expect_refused(header(1, 0).tensor("t", {1000}, 0).end(64), {"'t'", "4000 bytes"});
  expect_refused(header(1, 0).tensor("t", {1}, 32).end(64), {"'t'", "gap"});
  expect_refused(header(1, 0).tensor("t", {1}, ~std::uint64_t{0}).end(64), {"'t'", "overlap"});
  expect_refused(header(2, 0).tensor("t", {9}, 0).tensor("u", {1}, 32).end(96), {"'u'", "overlap"});
  expect_refused(header(2, 0).tensor("t", {1}, 0).tensor("t", {1}, 32).end(96), {"'t'", "twice"});
}

TEST_F(Gguf, NoChangedFileDoesHarm) {
  some_pairs().write(file(), some_tensors());
  expect_no_harm(read_file(file()), [](const std::filesystem::path& changed) {
    const GgufReader reader(changed);
    for (const std::string& name : reader.names()) reader.read(name);
  });
}

}  // namespace
}  // namespace filigree
