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
  for (const SliceToWrite& slice : slices) {
    const NamedTensor& named = *slice.tensor;
    const Hdf5Dataset dataset = file.create_dataset(
        slice.dataset, stored_type(named.tensor.dtype()), list_of(named.tensor.shape()));
    file.write_attribute(slice.dataset, "dtype", std::string(name_of(named.tensor.dtype())));
    file.write_attribute(slice.dataset, "global_shape", list_of(named.global_shape));
    file.write_attribute(slice.dataset, "offset", named.offset);
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
  for (const SliceToWrite& slice : slices) bytes += slice.tensor->tensor.bytes();
  return bytes;
}

// Lays out the file and takes all the space it needs, so that a full disk shows before anything is
// written.
std::vector<Extent> prepare_file(const std::filesystem::path& path, const RankFileHeader& header,
                                 const std::vector<SliceToWrite>& slices) {
  try {
    std::vector<Extent> extents = write_skeleton(path, header, slices);
    const PosixFile file = PosixFile::open_for_writing(path);
    file.allocate(file.size());
    return extents;
  } catch (const UserError& error) {
    throw UserError(str(error.what(), " (", payload_of(slices), " bytes are needed for ",
                        slices.size(), " tensors)"));
  }
}

std::string write_values(const PosixFile& file, const Extent& extent, const NamedTensor& named,
                         Hasher128& file_hasher) {
  const auto* values = static_cast<const std::byte*>(named.tensor.raw());
  Hasher128 hasher;
  try {
    for (std::int64_t done = 0; done < extent.bytes; done += kPieceBytes) {
      const std::int64_t bytes = std::min(kPieceBytes, extent.bytes - done);
      hasher.update(values + done, static_cast<std::size_t>(bytes));
      file_hasher.update(values + done, static_cast<std::size_t>(bytes));
      file.write_at(extent.offset + done, values + done, bytes);
    }
  } catch (const UserError& error) {
    throw UserError(str(error.what(), " (tensor '", named.name, "', ", extent.bytes, " bytes)"));
  }
  return hasher.digest();
}

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
                                const std::vector<SliceToWrite>& slices) {
  const std::string name = rank_file_name(header.rank);
  const std::vector<Extent> extents = prepare_file(folder / name, header, slices);
  PosixFile file = PosixFile::open_for_writing(folder / name);
  const std::int64_t size = file.size();

  WrittenRankFile written;
  written.slices.resize(slices.size());
  Hasher128 file_hasher;
  std::int64_t cursor = 0;
  const auto hash_up_to = [&](std::int64_t end) {
    read_in_pieces(file, {cursor, end - cursor}, [&](const std::byte* piece, std::int64_t bytes) {
      file_hasher.update(piece, static_cast<std::size_t>(bytes));
    });
  };
  for (const std::size_t index : order_in_file(extents)) {
    const Extent& extent = extents[index];
    FILIGREE_CHECK_EQ(extent.bytes, slices[index].tensor->tensor.bytes(), slices[index].dataset);
    FILIGREE_CHECK(extent.offset >= cursor, slices[index].dataset, " overlaps what lies before it");
    hash_up_to(extent.offset);
    written.slices[index] = {extent.offset,
                             write_values(file, extent, *slices[index].tensor, file_hasher)};
    cursor = extent.offset + extent.bytes;
  }
  hash_up_to(size);
  FILIGREE_CHECK_EQ(file.size(), size, (folder / name).string());
  written.file = {name, size, file_hasher.digest(), structure_hash(file, extents)};
  file.sync();
  file.close();
  return written;
}

}  // namespace filigree
