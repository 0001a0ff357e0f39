#include <simt/matrix.hpp>

#include <bit>
#include <cstring>

#include "tests/harness/simt/engine/machine.hpp"

namespace simt {
namespace {

constexpr std::uint32_t kWarp = 0xffffffffu;

void land(MemoryCheck& check, const AsyncCopy& copy) {
  auto* to = reinterpret_cast<unsigned char*>(copy.destination);
  const auto* from = reinterpret_cast<const unsigned char*>(copy.source);
  check.access(from, copy.source_bytes, Access::read, nullptr);
  check.access(to, copy.bytes, Access::write, nullptr);
  for (std::uint32_t i = 0; i < copy.bytes; ++i) to[i] = i < copy.source_bytes ? from[i] : 0;
}

struct LoadRequest {
  const std::uint16_t* row;
  std::uint32_t* registers;
};

template <int kCount, bool kTransposed>
void complete_load(void* const requests[32], std::uint32_t) {
  for (int lane = 0; lane < 32; ++lane) {
    for (int m = 0; m < kCount; ++m) {
      const auto element = [&](int row, int column) -> std::uint32_t {
        return static_cast<const LoadRequest*>(requests[8 * m + row])->row[column];
      };
      const int major = lane / 4, minor = lane % 4 * 2;
      const std::uint32_t low = kTransposed ? element(minor, major) : element(major, minor);
      const std::uint32_t high =
          kTransposed ? element(minor + 1, major) : element(major, minor + 1);
      static_cast<LoadRequest*>(requests[lane])->registers[m] = low | high << 16;
    }
  }
}

struct MultiplyRequest {
  float* d;
  const std::uint32_t *a, *b;
  const float* c;
};

float low_half(std::uint32_t v) { return std::bit_cast<float>(v << 16); }
float high_half(std::uint32_t v) { return std::bit_cast<float>(v & 0xffff0000u); }
float tf32(std::uint32_t v) { return std::bit_cast<float>(v & 0xffffe000u); }

// Gathers the fragments of all lanes, multiplies, scatters. g = lane / 4, t = lane % 4; element (i,
// k) of A, (k, j) of B.
template <int kDepth>
void multiply(void* const requests[32], const float (&a)[16][kDepth], const float (&b)[kDepth][8]) {
  for (int lane = 0; lane < 32; ++lane) {
    const auto& request = *static_cast<const MultiplyRequest*>(requests[lane]);
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
      float sum = request.c[i];
      for (int k = 0; k < kDepth; ++k) sum += a[row][k] * b[k][column];
      request.d[i] = sum;
    }
  }
}

void complete_bf16(void* const requests[32], std::uint32_t) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& request = *static_cast<const MultiplyRequest*>(requests[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int r = 0; r < 4; ++r) {
      a[g + r % 2 * 8][2 * t + r / 2 * 8] = low_half(request.a[r]);
      a[g + r % 2 * 8][2 * t + r / 2 * 8 + 1] = high_half(request.a[r]);
    }
    for (int r = 0; r < 2; ++r) {
      b[2 * t + r * 8][g] = low_half(request.b[r]);
      b[2 * t + r * 8 + 1][g] = high_half(request.b[r]);
    }
  }
  multiply<16>(requests, a, b);
}

void complete_tf32(void* const requests[32], std::uint32_t) {
  float a[16][8], b[8][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& request = *static_cast<const MultiplyRequest*>(requests[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int r = 0; r < 4; ++r) a[g + r % 2 * 8][t + r / 2 * 4] = tf32(request.a[r]);
    for (int r = 0; r < 2; ++r) b[t + r * 4][g] = tf32(request.b[r]);
  }
  multiply<8>(requests, a, b);
}

Complete loader(int count, bool transposed) {
  switch (count) {
    case 1:
      return transposed ? complete_load<1, true> : complete_load<1, false>;
    case 2:
      return transposed ? complete_load<2, true> : complete_load<2, false>;
    default:
      return transposed ? complete_load<4, true> : complete_load<4, false>;
  }
}

}  // namespace

namespace detail {

void start_copy(void* shared, const void* global, int bytes, int source_bytes) {
  Block& block = this_block("cp.async");
  MemoryCheck& check = Machine::instance().check();
  const auto to = reinterpret_cast<std::uintptr_t>(shared);
  const auto from = reinterpret_cast<std::uintptr_t>(global);
  if (!check.in_shared(shared)) {
    block.fail("cp.async to " + check.describe(shared) + ", which is not shared memory");
  }
  if (to % bytes != 0 || (source_bytes > 0 && from % bytes != 0)) {
    block.fail("cp.async of " + std::to_string(bytes) + " bytes from " + check.describe(global) +
               " to " + check.describe(shared) + ": both must be aligned to the size");
  }
  if (source_bytes < 0 || source_bytes > bytes) {
    block.fail("cp.async of " + std::to_string(bytes) + " bytes with " +
               std::to_string(source_bytes) + " to read");
  }
  check.in_flight(shared, bytes, __builtin_return_address(0));
  Thread& thread = *running_thread;
  thread.copies.push_back({to, from, static_cast<std::uint32_t>(bytes),
                           static_cast<std::uint32_t>(source_bytes), thread.copy_group});
}

void load_matrix(std::uint32_t* registers, int count, bool transposed, const void* row) {
  Block& block = this_block("ldmatrix");
  MemoryCheck& check = Machine::instance().check();
  if (running_thread->lane() < 8 * count) {
    if (!check.in_shared(row) || reinterpret_cast<std::uintptr_t>(row) % 16 != 0) {
      block.fail("ldmatrix of the row at " + check.describe(row) +
                 "; it must lie in shared memory, aligned to 16 bytes");
    }
    check.access(row, 16, Access::read, __builtin_return_address(0));
  }
  LoadRequest request{static_cast<const std::uint16_t*>(row), registers};
  block.warp_collective("ldmatrix", kWarp, &request, loader(count, transposed));
}

}  // namespace detail

void cp_async_commit() {
  this_block("cp.async.commit_group");
  ++running_thread->copy_group;
}

void cp_async_wait(int pending) {
  this_block("cp.async.wait_group");
  MemoryCheck& check = Machine::instance().check();
  Thread& thread = *running_thread;
  std::erase_if(thread.copies, [&](const AsyncCopy& copy) {
    if (copy.group + static_cast<std::uint64_t>(pending) >= thread.copy_group) return false;
    land(check, copy);
    return true;
  });
}

void mma_bf16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
              const float (&c)[4]) {
  MultiplyRequest request{d, a, b, c};
  this_block("mma").warp_collective("mma.m16n8k16", kWarp, &request, complete_bf16);
}

void mma_tf32(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
              const float (&c)[4]) {
  MultiplyRequest request{d, a, b, c};
  this_block("mma").warp_collective("mma.m16n8k8", kWarp, &request, complete_tf32);
}

}  // namespace simt
