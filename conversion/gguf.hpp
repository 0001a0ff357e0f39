// GGUF version 3 (github.com/ggml-org/ggml, docs/gguf.md): the file of llama.cpp. A header of typed
// key-value pairs, the tensors' names, shapes, types and places, and their values, each aligned to
// 32 bytes or what general.alignment says.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "conversion/weight_files.hpp"
#include "runtime/storage/posix_file.hpp"

namespace filigree {

// Keys and values, in the order of the file; a value is its type and its bytes, as they stand
// there.
using GgufPairs = std::vector<std::pair<std::string, std::string>>;

class GgufWriter {
 public:
  void add(std::string_view key, std::uint32_t value);
  void add(std::string_view key, float value);
  void add(std::string_view key, bool value);
  void add(std::string_view key, std::string_view value);
  void add(std::string_view key, std::span<const std::string> values);
  void add(std::string_view key, std::span<const float> values);
  void add(std::string_view key, std::span<const std::int32_t> values);

  // A new file; tensors are f32, f16 or bf16 and are made one after the other. Flushed to disk.
  void write(const std::filesystem::path& path, const std::vector<PromisedTensor>& tensors) const;
  // Reads the file again and compares it with what write() puts there. Throws UserError naming what
  // differs first.
  void verify(const std::filesystem::path& path, const std::vector<PromisedTensor>& tensors) const;

 private:
  std::string header(const std::vector<PromisedTensor>& tensors) const;

  GgufPairs pairs_;
};

// Whether a file begins as one.
bool is_gguf(const std::filesystem::path& file);

struct GgufEntry {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;              // outermost first
  std::int64_t offset = 0;  // in the file

  std::int64_t bytes() const { return shape.numel() * size_of(dtype); }
};

// A file that may come from a stranger: nothing of it is believed before it was checked against the
// file's size, and no value is read before the whole header was.
class GgufReader {
 public:
  // Throws UserError naming the file, and the key or tensor where it is about one: another version,
  // a header that is cut short, counts and lengths that the file cannot hold, types that do not
  // exist, a key or tensor that is there twice, values that overlap, leave gaps or lie outside the
  // file; and for tensors of quantized types, which are not read.
  explicit GgufReader(const std::filesystem::path& path);

  const GgufPairs& pairs() const { return pairs_; }
  std::vector<std::string> names() const;  // in the order of the file
  // Throws UserError when there is no such tensor.
  Tensor read(const std::string& name) const;

 private:
  PosixFile file_;
  GgufPairs pairs_;
  std::vector<GgufEntry> entries_;
};

}  // namespace filigree
