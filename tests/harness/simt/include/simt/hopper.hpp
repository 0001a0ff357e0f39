// What compute capability 9.0 adds, as plain functions with the semantics of the PTX ISA: barriers
// in shared memory that count arrivals and bytes ("mbarrier"), copies of boxes of tensors
// ("cp.async.bulk.tensor"), products of a warpgroup ("wgmma"), barriers of some of a block's
// threads ("bar"), registers dealt out anew ("setmaxnreg").
//
// Copies land at times that the seed draws and are seen by who waits for their barrier, products by
// who waits for their group: to read sooner is a fault.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace simt {
namespace detail {
void start_tensor_copy(void* shared, const CUtensorMap* map, void* barrier, const int* coordinates,
                       int rank);
struct WgmmaOperands {
  const std::uint32_t* a_registers;  // four; null: A is in shared memory
  std::uint64_t a, b;                // descriptors
  bool accumulate, a_is_transposed, b_is_transposed;
};
void start_product(float* sums, int columns, const WgmmaOperands& operands);
}  // namespace detail

// The address of a pointer in the window of shared memory, in bytes from the block's first.
std::uint32_t shared_address(const void* pointer);

// mbarrier.init: a phase ends when `arrivals` threads have arrived and as many bytes have landed as
// they said. The barrier is 8 bytes, aligned to 8, in shared memory.
void mbarrier_init(void* barrier, std::uint32_t arrivals);
// fence.mbarrier_init.release.cluster: copies may use the barriers that this thread has made.
void fence_mbarrier_init();
// mbarrier.arrive; mbarrier.arrive.expect_tx: and the phase waits for `bytes` more.
void mbarrier_arrive(void* barrier);
void mbarrier_arrive_expect(void* barrier, std::uint32_t bytes);
// mbarrier.try_wait.parity until it is true: the phase of this parity has ended. The phase that
// runs has parity (phases ended) % 2, so that parity 1 of a new barrier is not waited for.
void mbarrier_wait(void* barrier, std::uint32_t parity);

// fence.proxy.async: this thread's stores to shared memory so far are visible to copies and wgmma.
void fence_proxy_async();

// cp.async.bulk.tensor .tile .mbarrier::complete_tx::bytes: the box at `coordinates`, innermost
// first, into shared memory; what lies outside the tensor is zero, and counts as bytes.
template <int kRank>
void tensor_copy(void* shared, const CUtensorMap* map, void* barrier,
                 const int (&coordinates)[kRank]) {
  static_assert(2 <= kRank && kRank <= 4);
  detail::start_tensor_copy(shared, map, barrier, coordinates, kRank);
}

// bar.sync id, threads and bar.arrive id, threads: of all that meet there, the last lets the
// waiting ones go on. `threads` is a multiple of 32, id 1 to 15.
void named_barrier_sync(int id, int threads);
void named_barrier_arrive(int id, int threads);

// setmaxnreg.dec and .inc: by whole warpgroups, 24 to 256 in steps of 8.
void decrease_registers(int count);
void increase_registers(int count);

// wgmma.fence, .commit_group, .wait_group
void wgmma_fence();
void wgmma_commit();
void wgmma_wait(int pending);

// wgmma.mma_async m64nNk16, bf16 to f32: sums = a b, or sums += a b, by four warps in step. Warp w
// holds rows 16 w to 16 w + 15, with the layout of mma.m16n8k16 in each 8 columns. Operands in
// shared memory have the 128-byte swizzle; `transposed` ones are contiguous along M or N, others
// along K.
template <int kTiles>
void wgmma(float (&sums)[kTiles][4], std::uint64_t a, std::uint64_t b, bool accumulate,
           bool a_is_transposed, bool b_is_transposed) {
  static_assert(1 <= kTiles && kTiles <= 32);
  detail::start_product(sums[0], 8 * kTiles,
                        {nullptr, a, b, accumulate, a_is_transposed, b_is_transposed});
}
template <int kTiles>
void wgmma(float (&sums)[kTiles][4], const std::uint32_t (&a)[4], std::uint64_t b, bool accumulate,
           bool b_is_transposed) {
  static_assert(1 <= kTiles && kTiles <= 32);
  detail::start_product(sums[0], 8 * kTiles, {a, 0, b, accumulate, false, b_is_transposed});
}

}  // namespace simt
