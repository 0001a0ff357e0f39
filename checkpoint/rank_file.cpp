#include "checkpoint/rank_file.hpp"

#include <algorithm>
#include <cstdio>
#include <numeric>

#include "runtime/storage/hash.hpp"
#include "runtime/storage/hdf5_file.hpp"

namespace filigree {
namespace {

// Small enough that a piece is still in the cache when the second hash or the write comes to it.
constexpr std::int64_t kPieceBytes = std::int64_t{1} << 20;

// The disk is given so much at a time while the next is hashed.
constexpr std::int64_t kWriteBackBytes = std::int64_t{8} << 20;

// Of the values of a slice that have a hash of their own.
constexpr std::int64_t kPartBytes = std::int64_t{4} << 20;

Hdf5Type stored_type(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return Hdf5Type::f64;
    case DType::f32:
      return Hdf5Type::f32;
    case DType::bf16:
    case DType::f16:
    case DType::u16:
      return Hdf5Type::u16;
    case DType::i64:
      return Hdf5Type::i64;
    case DType::i32:
      return Hdf5Type::i32;
    case DType::u8:
      return Hdf5Type::u8;
  }
  FILIGREE_CHECK(false, "dtype ", static_cast<int>(dtype));
}

std::vector<std::int64_t> list_of(const Shape& shape) {
  return {shape.sizes().begin(), shape.sizes().end()};
}

// Lets libhdf5 lay out the file and write all of its own bytes. Returns where the values belong.
std::vector<Extent> write_skeleton(const std::filesystem::path& path, const RankFileHeader& header,
                                   const std::vector<SliceToWrite>& slices) {
  Hdf5File file = Hdf5File::create(path);
  file.write_attribute("/", "format", std::string(kCheckpointFormat));
  file.write_attribute("/", "version", kCheckpointVersion);
  file.write_attribute("/", "id", header.id);
  file.write_attribute("/", "step", header.step);
  file.write_attribute("/", "rank", std::int64_t{header.rank});
  file.write_attribute("/", "world", std::int64_t{header.world});
  std::vector<Extent> extents;
  extents.reserve(slices.size());
  for (const auto& [name, slice] : slices) {
    const Hdf5Dataset dataset =
        file.create_dataset(name, stored_type(slice->dtype), list_of(slice->shape));
    file.write_attribute(name, "dtype", std::string(name_of(slice->dtype)));
    file.write_attribute(name, "global_shape", list_of(slice->global_shape));
    file.write_attribute(name, "offset", slice->offset);
    extents.push_back({dataset.file_offset, dataset.bytes});
  }
  file.close();
  return extents;
}

std::vector<std::size_t> order_in_file(const std::vector<Extent>& extents) {
  std::vector<std::size_t> order(extents.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t left, std::size_t right) {
    return extents[left].offset < extents[right].offset;
  });
  return order;
}

std::int64_t payload_of(const std::vector<SliceToWrite>& slices) {
  std::int64_t bytes = 0;
  for (const SliceToWrite& slice : slices) bytes += slice.slice->bytes();
  return bytes;
}

Tensor fetch(const PromisedSlice& slice) {
  const Tensor values = slice.fetch();
  FILIGREE_CHECK(values.dtype() == slice.dtype && values.shape() == slice.shape &&
                     values.device().kind == DeviceKind::cpu,
                 "tensor '", slice.name, "' was promised as ", name_of(slice.dtype), slice.shape,
                 " in host memory and fetched as ", name_of(values.dtype()), values.shape());
  return values;
}

// Goes through a file that libhdf5 has laid out, front to back, and fills in the values: every byte
// is hashed while it is in the cache.
class HashedFile {
 public:
  HashedFile(const std::filesystem::path& path, FileSystem& system)
      : file_(PosixFile::open_for_writing(path, system)), size_(file_.size()) {
    // Before anything is written, so that a full disk shows now.
    file_.allocate(size_);
  }

  // libhdf5's own bytes from where the last values ended to `end`.
  void pass_structure(std::int64_t end) {
    FILIGREE_CHECK(end >= cursor_, "a dataset of ", file_.path(), " overlaps what lies before it");
    read_in_pieces(file_, {cursor_, end - cursor_},
                   [&](const std::byte* piece, std::int64_t bytes) {
                     structure_.update(piece, static_cast<std::size_t>(bytes));
                     whole_.update(piece, static_cast<std::size_t>(bytes));
                   });
    cursor_ = end;
  }
  void pass_structure() { pass_structure(size_); }

  WrittenSlice write_values(const Tensor& tensor) {
    WrittenSlice written{cursor_, {}, 0, {}};
    const Shape& shape = tensor.shape();
    const std::int64_t rows = shape.rank() == 0 ? 1 : shape[0], bytes = tensor.bytes();
    if (bytes == 0) return {cursor_, Hasher128().digest(), 0, {}};
    const std::int64_t row_bytes = bytes / rows;
    written.part_rows = std::clamp<std::int64_t>(kPartBytes / row_bytes, 1, rows);
    const auto* values = static_cast<const std::byte*>(tensor.raw());
    Hasher128 whole;
    for (std::int64_t row = 0; row < rows; row += written.part_rows) {
      const std::int64_t end = std::min(row + written.part_rows, rows) * row_bytes;
      written.part_hashes.push_back(
          write_part(values + row * row_bytes, end - row * row_bytes, whole));
    }
    written.hash = whole.digest();
    if (written.part_hashes.size() == 1) written.part_hashes.clear();
    return written;
  }

  SavedFile finish() {
    FILIGREE_CHECK_EQ(cursor_, size_, file_.path());
    file_.sync();
    file_.close();
    return {file_.path().filename(), size_, whole_.digest(), structure_.digest()};
  }

 private:
  std::string write_part(const std::byte* values, std::int64_t bytes, Hasher128& slice) {
    Hasher128 part;
    for (std::int64_t done = 0; done < bytes; done += kPieceBytes) {
      const std::int64_t count = std::min(kPieceBytes, bytes - done);
      part.update(values + done, static_cast<std::size_t>(count));
      slice.update(values + done, static_cast<std::size_t>(count));
      whole_.update(values + done, static_cast<std::size_t>(count));
      file_.write_at(cursor_, values + done, count);
      cursor_ += count;
      if (cursor_ - given_to_disk_ >= kWriteBackBytes) {
        file_.write_back(given_to_disk_, cursor_ - given_to_disk_);
        given_to_disk_ = cursor_;
      }
    }
    return part.digest();
  }

  PosixFile file_;
  std::int64_t size_, cursor_ = 0, given_to_disk_ = 0;
  Hasher128 whole_, structure_;
};

}  // namespace

std::string rank_file_name(int rank) {
  char name[32];
  std::snprintf(name, sizeof(name), "rank_%05d.h5", rank);
  return name;
}

void read_in_pieces(const PosixFile& file, const Extent& extent,
                    const std::function<void(const std::byte*, std::int64_t)>& use) {
  std::vector<std::byte> piece(static_cast<std::size_t>(std::min(kPieceBytes, extent.bytes)));
  for (std::int64_t done = 0; done < extent.bytes; done += kPieceBytes) {
    const std::int64_t bytes = std::min(kPieceBytes, extent.bytes - done);
    file.read_at(extent.offset + done, piece.data(), bytes);
    use(piece.data(), bytes);
  }
}

std::string structure_hash(const PosixFile& file, std::vector<Extent> extents) {
  extents.push_back({file.size(), 0});
  std::sort(extents.begin(), extents.end(),
            [](const Extent& left, const Extent& right) { return left.offset < right.offset; });
  Hasher128 hasher;
  std::int64_t cursor = 0;
  for (const Extent& extent : extents) {
    read_in_pieces(file, {cursor, std::max<std::int64_t>(extent.offset - cursor, 0)},
                   [&](const std::byte* piece, std::int64_t bytes) {
                     hasher.update(piece, static_cast<std::size_t>(bytes));
                   });
    cursor = std::max(cursor, extent.offset + extent.bytes);
  }
  return hasher.digest();
}

WrittenRankFile write_rank_file(const std::filesystem::path& folder, const RankFileHeader& header,
                                const std::vector<SliceToWrite>& slices, FileSystem& system) {
  const std::filesystem::path path = folder / rank_file_name(header.rank);
  const PromisedSlice* writing = nullptr;
  bool fetching = false;
  try {
    const std::vector<Extent> extents = write_skeleton(path, header, slices);
    HashedFile file(path, system);
    WrittenRankFile written;
    written.slices.resize(slices.size());
    for (const std::size_t index : order_in_file(extents)) {
      writing = slices[index].slice;
      FILIGREE_CHECK_EQ(extents[index].bytes, writing->bytes(), slices[index].dataset);
      file.pass_structure(extents[index].offset);
      fetching = true;
      const Tensor values = fetch(*writing);
      fetching = false;
      written.slices[index] = file.write_values(values);
    }
    writing = nullptr;
    file.pass_structure();
    written.file = file.finish();
    return written;
  } catch (const UserError& error) {
    if (fetching) throw;  // nothing is wrong with the file
    throw UserError(str(error.what(),
                        writing ? str(" (tensor '", writing->name, "')") : std::string(), " (",
                        payload_of(slices), " bytes are needed for ", slices.size(), " tensors)"));
  }
}

}  // namespace filigree
