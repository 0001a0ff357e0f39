#include "tests/harness/simt/engine/wgmma.hpp"

#include <algorithm>
#include <bit>

#include <simt/hopper.hpp>

#include "tests/harness/simt/engine/machine.hpp"

namespace simt {
namespace {

constexpr std::uint32_t kWarp = 0xffffffffu;
constexpr int kRows = 16, kDepth = 16;  // of a warp's part of one product

WarpProducts& products_of(Block& block) {
  return block.async().warps[static_cast<std::size_t>(running_thread->warp())];
}

// A matrix in shared memory (PTX ISA, "Matrix Descriptor Format"); all in bytes.
struct Descriptor {
  std::uint32_t start, leading, stride;
  unsigned base_offset, swizzle;

  explicit Descriptor(std::uint64_t bits)
      : start(static_cast<std::uint32_t>(bits & 0x3fff) << 4),
        leading(static_cast<std::uint32_t>(bits >> 16 & 0x3fff) << 4),
        stride(static_cast<std::uint32_t>(bits >> 32 & 0x3fff) << 4),
        base_offset(static_cast<unsigned>(bits >> 49 & 7)),
        swizzle(static_cast<unsigned>(bits >> 62)) {}
};

// Calls visit(chunk, mn, k) for the 16-byte chunks of rows (or columns) [first, first + count) of
// an operand 16 deep. K-major: a row has 2 chunks, 8 rows of 128 bytes are an atom, atoms `stride`
// apart. MN-major: 64 rows are a line of 128 bytes and 8 lines an atom, atoms `leading` apart along
// the rows and `stride` along k. Within an atom bits 4 to 6 of an address are xored with bits 7 to
// 9.
template <class Visit>
void visit_chunks(const Descriptor& d, bool transposed, int first, int count, const Visit& visit) {
  unsigned char* const base = Machine::instance().check().shared_memory();
  const auto chunk = [&](std::uint32_t address) {
    return base + (address ^ (address >> 7 & 7) << 4);
  };
  if (!transposed) {
    for (int row = first; row < first + count; ++row)
      for (int c = 0; c < 2; ++c)
        visit(chunk(d.start + row / 8 * d.stride + row % 8 * 128 + c * 16), row, 8 * c);
    return;
  }
  for (int k = 0; k < kDepth; ++k)
    for (int row = first; row < first + count; row += 8)
      visit(chunk(d.start + row / 64 * d.leading + k / 8 * d.stride + k % 8 * 128 +
                  row % 64 / 8 * 16),
            row, k);
}

void check_descriptor(Block& block, const char* which, std::uint64_t bits, bool transposed) {
  const Descriptor d(bits);
  const std::string name = std::string("wgmma with a descriptor of ") + which;
  if (d.swizzle != 1)
    block.fail(name + " whose swizzle is " + std::to_string(d.swizzle) +
               "; emulated is 1, 128 bytes");
  // An atom begins at a multiple of 1024, a step along k inside one is 32 bytes.
  const std::uint32_t within = d.start % 1024;
  if (d.base_offset != 0 || (transposed ? within != 0 : within % 32 != 0 || within >= 128))
    block.fail(name + " that starts at byte " + std::to_string(d.start) +
               " of shared memory with base offset " + std::to_string(d.base_offset) +
               "; atoms are aligned to 1024, steps along k are 32 bytes of a row");
}

// Faults unless the operand has landed and been waited for.
void check_landed(const Descriptor& d, bool transposed, int first, int count) {
  MemoryCheck& check = Machine::instance().check();
  visit_chunks(d, transposed, first, count,
               [&](const unsigned char* chunk, int, int) { check.check_landed(chunk, 16); });
}

float bfloat16_at(const unsigned char* bytes) {
  return std::bit_cast<float>((static_cast<std::uint32_t>(bytes[0]) << 16) |
                              (static_cast<std::uint32_t>(bytes[1]) << 24));
}

// values[mn - first][k]
void load_operand(const Descriptor& d, bool transposed, int first, int count,
                  float (*values)[kDepth]) {
  MemoryCheck& check = Machine::instance().check();
  visit_chunks(d, transposed, first, count, [&](const unsigned char* chunk, int row, int k) {
    check.proxy_read(chunk, 16);
    for (int e = 0; e < 8; ++e)
      values[row - first + (transposed ? e : 0)][k + (transposed ? 0 : e)] =
          bfloat16_at(chunk + 2 * e);
  });
}

// Lane l holds rows l/4 and l/4 + 8, columns 2 (l % 4) and the next, and those 8 further on.
void unpack_fragments(const WarpProduct& product, float (*a)[kDepth]) {
  for (int lane = 0; lane < 32; ++lane)
    for (int r = 0; r < 4; ++r) {
      const std::uint32_t bits = product.fragments[lane][r];
      float* const to = &a[lane / 4 + r % 2 * 8][lane % 4 * 2 + r / 2 * 8];
      to[0] = std::bit_cast<float>(bits << 16);
      to[1] = std::bit_cast<float>(bits & 0xffff0000u);
    }
}

int first_row() { return running_thread->warp() % 4 * kRows; }

void multiply(const WarpProduct& product) {
  float a[kRows][kDepth], b[256][kDepth];
  if (product.a_in_registers)
    unpack_fragments(product, a);
  else
    load_operand(Descriptor(product.a), product.a_is_transposed, first_row(), kRows, a);
  load_operand(Descriptor(product.b), product.b_is_transposed, 0, product.columns, b);
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < product.columns / 2; ++i) {
      const int row = lane / 4 + i % 4 / 2 * 8, column = i / 4 * 8 + lane % 4 * 2 + i % 2;
      float sum = product.accumulate ? product.sums[lane][i] : 0.0f;
      for (int k = 0; k < kDepth; ++k) sum += a[row][k] * b[column][k];
      product.sums[lane][i] = sum;
    }
}

struct ProductRequest {
  float* sums;
  int columns;
  detail::WgmmaOperands operands;
};

void mark_in_flight(Thread& thread, const WarpProduct& product) {
  const auto begin = reinterpret_cast<std::uintptr_t>(product.sums[thread.lane()]);
  for (Thread::Accumulator& other : thread.accumulators)
    if (other.begin == begin) {
      other.group = product.group;
      return;
    }
  thread.accumulators.push_back(
      {begin, static_cast<std::size_t>(product.columns) * sizeof(float) / 2, product.group});
}

// The four warps issue the same products in the same order.
void check_alike(Block& block, WarpProducts& warp, const WarpProduct& product) {
  auto& issued = block.async().warpgroups[static_cast<std::size_t>(running_thread->warp() / 4)];
  const ProductShape shape{product.columns, product.a, product.b};
  if (warp.count == issued.size()) issued.push_back(shape);
  if (!(issued[warp.count++] == shape))
    block.fail("wgmma that differs from what the other warps of its warpgroup have issued");
}

void complete_issue(void* const requests[32], std::uint32_t) {
  Block& block = *running_block;
  WarpProducts& warp = products_of(block);
  const auto& first = *static_cast<const ProductRequest*>(requests[0]);
  const detail::WgmmaOperands& o = first.operands;
  if (running_thread->warp() / 4 * 128 + 128 > block.threads())
    block.fail("wgmma in a warpgroup that lacks warps: the block has " +
               std::to_string(block.threads()) + " threads");
  if (!warp.fenced)
    block.fail("wgmma without wgmma.fence since the last wait: its registers may still change");
  WarpProduct product{first.columns,
                      o.a_registers != nullptr,
                      o.accumulate,
                      o.a_is_transposed,
                      o.b_is_transposed,
                      o.a,
                      o.b,
                      {},
                      {},
                      warp.group};
  const int warp_begin = running_thread->index / 32 * 32;
  for (int lane = 0; lane < 32; ++lane) {
    const auto& request = *static_cast<const ProductRequest*>(requests[lane]);
    if (request.operands.a != o.a || request.operands.b != o.b)
      block.fail("wgmma with descriptors that differ between the lanes of a warp");
    product.sums[lane] = request.sums;
    if (product.a_in_registers)
      std::copy_n(request.operands.a_registers, 4, product.fragments[lane]);
    mark_in_flight(block.thread(warp_begin + lane), product);
  }
  check_alike(block, warp, product);
  if (!product.a_in_registers) {
    check_descriptor(block, "A", o.a, o.a_is_transposed);
    check_landed(Descriptor(o.a), o.a_is_transposed, first_row(), kRows);
  }
  check_descriptor(block, "B", o.b, o.b_is_transposed);
  check_landed(Descriptor(o.b), o.b_is_transposed, 0, product.columns);
  warp.issued.push_back(product);
}

void complete_fence(void* const[32], std::uint32_t) { products_of(*running_block).fenced = true; }

void complete_commit(void* const[32], std::uint32_t) { ++products_of(*running_block).group; }

void complete_wait(void* const requests[32], std::uint32_t) {
  Block& block = *running_block;
  WarpProducts& warp = products_of(block);
  const int pending = *static_cast<const int*>(requests[0]);
  warp.fenced = false;
  const auto ended = [&](std::uint64_t group) {
    return group + static_cast<std::uint64_t>(pending) < warp.group;
  };
  const int warp_begin = running_thread->index / 32 * 32;
  for (int lane = 0; lane < 32; ++lane)
    std::erase_if(block.thread(warp_begin + lane).accumulators,
                  [&](const Thread::Accumulator& a) { return ended(a.group); });
  const auto rest = std::find_if(warp.issued.begin(), warp.issued.end(),
                                 [&](const WarpProduct& product) { return !ended(product.group); });
  for (auto product = warp.issued.begin(); product != rest; ++product) multiply(*product);
  warp.issued.erase(warp.issued.begin(), rest);
  // What the products have read, they have read before any lane goes on.
  block.order().warp_meeting(running_thread->warp(), kWarp, kWarp);
}

}  // namespace

void check_registers(const void* address, std::size_t bytes, Access access) {
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  for (const Thread::Accumulator& a : running_thread->accumulators)
    if (at < a.begin + a.bytes && a.begin < at + bytes)
      running_block->fail(std::string(access == Access::read ? "reads" : "changes") +
                          " sums that wgmma has in flight: no wgmma.wait_group for their group");
}

namespace detail {

void start_product(float* sums, int columns, const WgmmaOperands& operands) {
  ProductRequest request{sums, columns, operands};
  this_block("wgmma").warp_collective("wgmma.mma_async", kWarp, &request, complete_issue);
}

}  // namespace detail

void wgmma_fence() {
  this_block("wgmma.fence").warp_collective("wgmma.fence", kWarp, nullptr, complete_fence);
}

void wgmma_commit() {
  this_block("wgmma.commit_group")
      .warp_collective("wgmma.commit_group", kWarp, nullptr, complete_commit);
}

void wgmma_wait(int pending) {
  this_block("wgmma.wait_group")
      .warp_collective("wgmma.wait_group", kWarp, &pending, complete_wait);
}

}  // namespace simt
