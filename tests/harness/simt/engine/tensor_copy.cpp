// Tensor maps and copies of boxes (PTX ISA, "cp.async.bulk.tensor"; CUDA Driver API,
// "cuTensorMapEncodeTiled").
#include <algorithm>
#include <cstring>
#include <string_view>

#include <simt/hopper.hpp>

#include "tests/harness/simt/engine/api.hpp"
#include "tests/harness/simt/engine/machine.hpp"
#include "tests/harness/simt/engine/mbarrier.hpp"

namespace simt {
namespace {

constexpr std::uint32_t kMagic = 0x7e5042a9u;  // says that a map was encoded here
constexpr int kMaxRank = 5;
constexpr std::size_t kSwizzleBytes = 128;

// What we keep in the 128 opaque bytes.
struct EncodedMap {
  std::uint64_t address;
  std::uint64_t strides[kMaxRank];  // bytes; of dim 0 the size of an element
  std::uint32_t dims[kMaxRank];
  std::uint16_t box[kMaxRank];
  std::uint8_t rank, swizzled;
  std::uint32_t magic;
};
static_assert(sizeof(EncodedMap) <= sizeof(CUtensorMap));

std::size_t element_bytes(CUtensorMapDataType type) {
  return type == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 ? 2 : 4;
}

CUresult encode(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* address,
                const cuuint64_t* dims, const cuuint64_t* strides, const cuuint32_t* box,
                const cuuint32_t* element_strides, CUtensorMapInterleave interleave,
                CUtensorMapSwizzle swizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill fill) {
  const std::size_t bytes = element_bytes(type);
  bool valid = rank >= 2 && rank <= kMaxRank && interleave == CU_TENSOR_MAP_INTERLEAVE_NONE &&
               fill == CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE &&
               reinterpret_cast<std::uintptr_t>(address) % 16 == 0 &&
               reinterpret_cast<std::uintptr_t>(map) % 64 == 0;
  for (cuuint32_t d = 0; valid && d < rank; ++d)
    valid = dims[d] >= 1 && dims[d] <= (std::uint64_t{1} << 32) && box[d] >= 1 && box[d] <= 256 &&
            element_strides[d] == 1 &&
            (d == 0 || (strides[d - 1] % 16 == 0 && strides[d - 1] < (std::uint64_t{1} << 40)));
  if (!valid || box[0] * bytes % 16 != 0 ||
      (swizzle == CU_TENSOR_MAP_SWIZZLE_128B && box[0] * bytes > kSwizzleBytes))
    return CUDA_ERROR_INVALID_VALUE;
  EncodedMap encoded{};
  encoded.address = reinterpret_cast<std::uintptr_t>(address);
  encoded.rank = static_cast<std::uint8_t>(rank);
  encoded.swizzled = swizzle == CU_TENSOR_MAP_SWIZZLE_128B;
  encoded.magic = kMagic;
  for (cuuint32_t d = 0; d < rank; ++d) {
    encoded.dims[d] = static_cast<std::uint32_t>(dims[d]);
    encoded.box[d] = static_cast<std::uint16_t>(box[d]);
    encoded.strides[d] = d == 0 ? bytes : strides[d - 1];
  }
  *map = {};
  std::memcpy(map, &encoded, sizeof(encoded));
  return CUDA_SUCCESS;
}

std::size_t box_bytes(const EncodedMap& map) {
  std::size_t bytes = map.strides[0];
  for (int d = 0; d < map.rank; ++d) bytes *= map.box[d];
  return bytes;
}

// Byte `offset` of a box that begins at `to` lies here.
unsigned char* placed(const EncodedMap& map, unsigned char* to, std::size_t offset) {
  auto address = reinterpret_cast<std::uintptr_t>(to) + offset;
  if (map.swizzled) address ^= (address >> 7 & 7) << 4;
  return reinterpret_cast<unsigned char*>(address);
}

// One line of the box along the innermost dim.
void land_line(MemoryCheck& check, const EncodedMap& map, const int* at, std::int64_t first,
               unsigned char* to, std::size_t offset) {
  bool inside = true;
  std::uint64_t from = map.address;
  for (int d = 1; d < map.rank; ++d) {
    inside = inside && at[d] >= 0 && static_cast<std::uint32_t>(at[d]) < map.dims[d];
    from += static_cast<std::uint64_t>(at[d]) * map.strides[d];
  }
  const auto bytes = static_cast<std::int64_t>(map.strides[0]);
  const std::int64_t begin = std::clamp<std::int64_t>(-first, 0, map.box[0]);
  const std::int64_t end =
      std::clamp<std::int64_t>(static_cast<std::int64_t>(map.dims[0]) - first, begin, map.box[0]);
  const auto* source = reinterpret_cast<const unsigned char*>(from) + first * bytes;
  if (inside)
    check.access(source + begin * bytes, static_cast<std::size_t>((end - begin) * bytes),
                 Access::read, nullptr);
  for (std::int64_t i = 0; i < map.box[0] * bytes; ++i) {
    const bool read = inside && i >= begin * bytes && i < end * bytes;
    *placed(map, to, offset + static_cast<std::size_t>(i)) = read ? source[i] : 0;
  }
}

void land_box(MemoryCheck& check, const EncodedMap& map, const int* coordinates,
              unsigned char* to) {
  check.access(to, box_bytes(map), Access::write, nullptr);
  check.conceal(to, box_bytes(map));
  const std::size_t line = map.box[0] * map.strides[0];
  const std::size_t lines = box_bytes(map) / line;
  for (std::size_t l = 0; l < lines; ++l) {
    int at[kMaxRank] = {};
    std::size_t rest = l;
    for (int d = 1; d < map.rank; ++d) {
      at[d] = coordinates[d] + static_cast<int>(rest % map.box[d]);
      rest /= map.box[d];
    }
    land_line(check, map, at, coordinates[0], to, l * line);
  }
}

void refuse_overlap(Block& block, const MemoryCheck& check, SharedRange to) {
  for (const Transfer& other : block.async().transfers)
    if (to.begin < other.to.begin + other.to.bytes && other.to.begin < to.begin + to.bytes)
      block.fail("cp.async.bulk.tensor to " + check.describe(to.begin) +
                 ", where another copy has not landed");
}

}  // namespace

namespace detail {

void start_tensor_copy(void* shared, const CUtensorMap* pointer, void* barrier,
                       const int* coordinates, int rank) {
  Block& block = this_block("cp.async.bulk.tensor");
  MemoryCheck& check = Machine::instance().check();
  EncodedMap map;
  std::memcpy(&map, pointer, sizeof(map));
  if (map.magic != kMagic)
    block.fail("cp.async.bulk.tensor with a map that cuTensorMapEncodeTiled has not made");
  if (map.rank != rank)
    block.fail("cp.async.bulk.tensor of " + std::to_string(rank) + " dims with a map of " +
               std::to_string(map.rank));
  // The pattern of the swizzle is that of addresses.
  const std::uint32_t alignment = map.swizzled ? 1024 : 128;
  if (shared_address(shared) % alignment != 0)
    block.fail("cp.async.bulk.tensor to " + check.describe(shared) + "; it must be aligned to " +
               std::to_string(alignment));
  if (!mbarrier_at(block, barrier, "cp.async.bulk.tensor").fenced)
    block.fail("cp.async.bulk.tensor with " + check.describe(barrier) +
               ", a barrier that was made without fence.mbarrier_init after it");
  const SharedRange to{static_cast<unsigned char*>(shared), box_bytes(map)};
  refuse_overlap(block, check, to);
  check.in_flight(shared, to.bytes, __builtin_return_address(0));
  Transfer transfer{to, {}, {}};
  block.order().release(running_thread->index, transfer.knowledge);
  std::array<int, kMaxRank> at{};
  std::copy_n(coordinates, rank, at.begin());
  transfer.land = [&block, &check, map, at, to, address = shared_address(barrier)] {
    land_box(check, map, at.data(), to.begin);
    mbarrier_landed(block, address, to);
  };
  block.start(std::move(transfer));
  block.maybe_yield();
}

}  // namespace detail
}  // namespace simt

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned version,
                                             unsigned long long,
                                             cudaDriverEntryPointQueryResult* found) {
  const bool known = std::string_view(symbol) == "cuTensorMapEncodeTiled" && version >= 12000;
  *function = known ? reinterpret_cast<void*>(&simt::encode) : nullptr;
  *found = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}
