// The weights of a Hugging Face model folder: one safetensors file or several with an index.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "conversion/safetensors.hpp"

namespace filigree {

// A tensor that is made when it is its turn, so that one at a time is in memory.
struct PromisedTensor {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  std::function<Tensor()> make;  // on the host, the same bits at every call

  std::int64_t bytes() const { return shape.numel() * size_of(dtype); }
};

// `values` in `dtype`. Throws UserError, naming `what`, where a finite value has none there.
Tensor narrowed(const Tensor& values, DType dtype, const std::string& what);

// Gets bytes done and in all.
using ConversionProgress = std::function<void(std::int64_t, std::int64_t)>;

// Reports what is made of these tensors, each of which is made `passes` times.
void report_progress(std::vector<PromisedTensor>& tensors, int passes,
                     const ConversionProgress& progress);

// STEM.safetensors, or, where that would pass `most_bytes`, STEM-00001-of-0000N.safetensors ... and
// STEM.safetensors.index.json; a larger tensor has a file of its own. Returns the number of files
// that hold tensors.
int write_weights(const std::filesystem::path& folder, const std::string& stem,
                  const std::vector<PromisedTensor>& tensors, std::int64_t most_bytes);

class WeightFolder {
 public:
  // Throws UserError when the folder has neither model.safetensors nor an index, when the index
  // names what its files do not have, or a file is damaged.
  explicit WeightFolder(const std::filesystem::path& folder, const std::string& stem = "model");

  std::vector<std::string> names() const;
  bool contains(const std::string& name) const { return files_of_.count(name) > 0; }
  const Shape& shape(const std::string& name) const { return file_of(name).shape(name); }
  DType dtype(const std::string& name) const { return file_of(name).dtype(name); }
  Tensor read(const std::string& name) const { return file_of(name).read(name); }
  Tensor read_rows(const std::string& name, std::int64_t begin, std::int64_t end) const {
    return file_of(name).read_rows(name, begin, end);
  }
  // The file that holds it, for messages.
  std::string place(const std::string& name) const { return file_of(name).path().string(); }

 private:
  void open_one(const std::filesystem::path& file);
  void open_index(const std::filesystem::path& index);
  const SafetensorsReader& file_of(const std::string& name) const;

  std::filesystem::path folder_;
  std::map<std::string, SafetensorsReader> readers_;  // by file name
  std::map<std::string, std::string> files_of_;       // by tensor
};

// What a failed verification says of the cause.
inline constexpr char kDistrust[] = "the disk or the memory of this machine is not to be trusted";
// Throws UserError naming tensor and `place` unless `found` is what was promised, bit for bit.
void verify_tensor(const Tensor& found, const PromisedTensor& promised, const std::string& place);

// Reads the folder again and compares every tensor with what is promised, bit for bit. Throws
// UserError naming the first that differs, is missing or is too much.
void verify_weights(const std::filesystem::path& folder, const std::string& stem,
                    const std::vector<PromisedTensor>& tensors);

}  // namespace filigree
