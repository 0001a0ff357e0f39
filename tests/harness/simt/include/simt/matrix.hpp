// Asynchronous copies to shared memory and matrix instructions of compute capability 8.0, as plain
// functions with the fragment layouts of the PTX ISA ("cp.async", "ldmatrix", "mma.m16n8k16 with
// floating point type", "mma.m16n8k8 .tf32"). All lanes of a warp must call the matrix functions.
#pragma once

#include <cstdint>

namespace simt {
namespace detail {
void start_copy(void* shared, const void* global, int bytes, int source_bytes);
void load_matrix(std::uint32_t* registers, int count, bool transposed, const void* row);
}  // namespace detail

// cp.async: `kBytes` (4, 8 or 16, both addresses aligned to it) from device to shared memory, of
// which only `source_bytes` are read and the rest is zero. The data lands when the copying thread
// waits for it, no sooner; reading it before that, or by other threads before a barrier after it,
// is a fault.
template <int kBytes>
void cp_async(void* shared, const void* global, int source_bytes = kBytes) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  detail::start_copy(shared, global, kBytes, source_bytes);
}
// cp.async.commit_group: the copies since the last commit become one group of this thread.
void cp_async_commit();
// cp.async.wait_group: all but the latest `pending` groups of this thread have landed.
void cp_async_wait(int pending);

// ldmatrix .x1, .x2, .x4 .m8n8 .b16: lane 8 m + r gives the address of row r of matrix m (16 bytes,
// aligned to 16, in shared memory). Register m of lane l holds row l / 4, columns 2 (l % 4) and the
// next, of matrix m, or of its transpose.
template <int kCount>
void ldmatrix(std::uint32_t (&registers)[kCount], const void* row) {
  static_assert(kCount == 1 || kCount == 2 || kCount == 4);
  detail::load_matrix(registers, kCount, false, row);
}
template <int kCount>
void ldmatrix_trans(std::uint32_t (&registers)[kCount], const void* row) {
  static_assert(kCount == 1 || kCount == 2 || kCount == 4);
  detail::load_matrix(registers, kCount, true, row);
}

// d = a b + c, m16n8k16, bf16 to f32. Products are exact; sums are f32, in the order of k, c first.
// A tensor core adds in another order and truncates, so that tests need bounds, not equality.
void mma_bf16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
              const float (&c)[4]);
// d = a b + c, m16n8k8, tf32 to f32: the 13 lowest bits of each f32 operand are ignored.
void mma_tf32(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
              const float (&c)[4]);

}  // namespace simt
