// The part of HDF5 that Filigree's files use: contiguous little-endian datasets and attributes.
//
// Bulk data does not pass through libhdf5. A file is made as a skeleton (create, create_dataset...,
// close) whose datasets already have their place; the values are then written and read at
// Hdf5Dataset::file_offset through PosixFile. So a full disk is a plain system error, reads scale
// over threads, and any HDF5 tool reads the result.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/library_version.hpp"

namespace filigree {

LibraryVersion hdf5_version();

// Element types as stored, all little-endian. bf16 and f16 have no HDF5 type of their own: store
// u16 and say so in an attribute.
enum class Hdf5Type : std::uint8_t { f64, f32, i64, i32, u64, u32, u16, u8 };
std::int64_t size_of(Hdf5Type type);
std::string_view name_of(Hdf5Type type);  // "u16"

struct Hdf5Dataset {
  Hdf5Type type = Hdf5Type::u8;
  std::vector<std::int64_t> shape;
  std::int64_t bytes = 0;
  // Where the values lie in the file: one run of `bytes` bytes.
  std::int64_t file_offset = 0;
};

// All functions throw UserError that names the file, the object and libhdf5's innermost reason.
// Thread-safe: one process-wide lock, whatever flavour of libhdf5 is linked.
class Hdf5File {
 public:
  // Fails when the file exists. Metadata is checksummed (library version bounds v110), datasets of
  // a page or more are page-aligned, no times are kept: the same calls make the same bytes.
  static Hdf5File create(const std::filesystem::path& path);
  static Hdf5File open(const std::filesystem::path& path);  // read-only

  Hdf5File(Hdf5File&&) noexcept;
  Hdf5File& operator=(Hdf5File&&) noexcept;
  ~Hdf5File();  // closes; cannot report errors

  // After this a created file has its final size and its datasets their place. Nothing else may be
  // called then.
  void close();
  const std::filesystem::path& path() const;

  // Contiguous, allocated now, not filled. `name` may hold '/': groups are made as needed. Sizes
  // may be 0.
  Hdf5Dataset create_dataset(const std::string& name, Hdf5Type type,
                             const std::vector<std::int64_t>& shape);

  bool has_dataset(const std::string& name) const;
  // Refuses what cannot be read at file_offset: other types or byte orders, chunked, filtered or
  // external storage, a place outside the file.
  Hdf5Dataset dataset(const std::string& name) const;

  // Attributes of the dataset or group `object`; "/" is the file.
  void write_attribute(const std::string& object, const std::string& name, std::int64_t value);
  void write_attribute(const std::string& object, const std::string& name,
                       const std::string& value);
  void write_attribute(const std::string& object, const std::string& name,
                       const std::vector<std::int64_t>& values);  // a list, may be empty
  bool has_attribute(const std::string& object, const std::string& name) const;
  std::int64_t integer_attribute(const std::string& object, const std::string& name) const;
  std::string text_attribute(const std::string& object, const std::string& name) const;

 private:
  struct State;
  explicit Hdf5File(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace filigree
