// safetensors files (github.com/huggingface/safetensors, "Format"): the length of a header as
// little-endian u64, the header as JSON (name -> dtype, shape, data_offsets), and the values of the
// tensors, row-major, without gaps.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "runtime/core/tensor.hpp"
#include "runtime/storage/posix_file.hpp"

namespace filigree {

// A file that may come from a stranger: nothing of it is believed before it was checked against the
// file's size, and no value is read before the whole header was.
class SafetensorsReader {
 public:
  // Throws UserError naming the file, and the tensor where it is about one: a header that is cut
  // short, too long or no JSON, a name that is there twice, an unknown dtype, a shape that does not
  // fit its bytes, values that overlap, leave gaps or lie outside the file.
  explicit SafetensorsReader(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  std::vector<std::string> names() const;  // in alphabetical order
  bool contains(const std::string& name) const { return entries_.count(name) > 0; }
  const Shape& shape(const std::string& name) const { return entry(name).shape; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  // Throw UserError when the file has a type that Filigree does not read (BOOL, F8_E4M3, ...).
  DType dtype(const std::string& name) const;
  Tensor read(const std::string& name) const;
  Tensor read_rows(const std::string& name, std::int64_t begin,
                   std::int64_t end) const;  // of dim 0

 private:
  struct Entry {
    std::string type;  // "BF16"
    Shape shape;
    std::int64_t offset = 0, bytes = 0;  // in the file
  };
  const Entry& entry(const std::string& name) const;

  PosixFile file_;
  std::map<std::string, Entry> entries_;
  std::map<std::string, std::string> metadata_;
};

struct SafetensorsSlot {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
};

// Writes a new file from beginning to end, one tensor after the other.
class SafetensorsWriter {
 public:
  // Throws UserError when the file exists or cannot be made, or the disk has no room for it.
  SafetensorsWriter(const std::filesystem::path& path, std::vector<SafetensorsSlot> slots,
                    const std::map<std::string, std::string>& metadata = {{"format", "pt"}});
  // The values of the next slot, whose dtype and shape they have; on the host.
  void write(const Tensor& values);
  // After the last one: flushes the file to disk.
  void close();

 private:
  PosixFile file_;
  std::vector<SafetensorsSlot> slots_;
  std::size_t next_ = 0;
  std::int64_t offset_ = 0;
};

}  // namespace filigree
