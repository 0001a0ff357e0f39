// What compute capability 9.0a adds, under one name for nvcc and the emulator: barriers in shared
// memory, copies of boxes (TMA), products of a warpgroup. PTX ISA: "mbarrier",
// "cp.async.bulk.tensor", "wgmma.mma_async", "bar", "setmaxnreg".
#pragma once

#include <cuda.h>

#include "kernels/cuda/tile/instructions.hpp"

#ifdef FILIGREE_SIMT
#include <simt/hopper.hpp>
#endif

namespace filigree::tile {

constexpr int kWarpgroup = 128;  // threads

// Where a kernel that needs them has a body; elsewhere it is compiled to nothing.
#if defined(FILIGREE_SIMT) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
constexpr bool kHasHopperInstructions = true;
#else
constexpr bool kHasHopperInstructions = false;
#endif

struct alignas(8) Barrier {
  std::uint64_t state;
};

#ifdef FILIGREE_SIMT

using simt::fence_mbarrier_init;
using simt::named_barrier_arrive;
using simt::named_barrier_sync;
using simt::shared_address;
using simt::wgmma_commit;
using simt::wgmma_fence;
inline void init(Barrier& barrier, int arrivals) {
  simt::mbarrier_init(&barrier, static_cast<std::uint32_t>(arrivals));
}
inline void arrive(Barrier& barrier) { simt::mbarrier_arrive(&barrier); }
inline void arrive_and_expect(Barrier& barrier, int bytes) {
  simt::mbarrier_arrive_expect(&barrier, static_cast<std::uint32_t>(bytes));
}
inline void wait(Barrier& barrier, int parity) {
  simt::mbarrier_wait(&barrier, static_cast<std::uint32_t>(parity));
}
inline void copy_box(void* shared, const CUtensorMap& map, Barrier& barrier,
                     const int (&coordinates)[4]) {
  simt::tensor_copy(shared, &map, &barrier, coordinates);
}
template <int kRegisters>
void decrease_registers() {
  simt::decrease_registers(kRegisters);
}
template <int kRegisters>
void increase_registers() {
  simt::increase_registers(kRegisters);
}
template <int kPending, class... Sums>
void wgmma_wait(Sums&...) {
  simt::wgmma_wait(kPending);
}
template <bool kTransposed, int kTiles>
void wgmma(float (&s)[kTiles][4], std::uint64_t a, std::uint64_t b, bool accumulate) {
  simt::wgmma(s, a, b, accumulate, false, kTransposed);
}
template <bool kTransposed, int kTiles>
void wgmma(float (&s)[kTiles][4], const std::uint32_t (&a)[4], std::uint64_t b, bool accumulate) {
  simt::wgmma(s, a, b, accumulate, kTransposed);
}

#else

// A barrier that `arrivals` threads, and the bytes that they announce, complete.
__device__ inline void init(Barrier& barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)),
               "r"(arrivals)
               : "memory");
}
__device__ inline void fence_mbarrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ inline void arrive(Barrier& barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&barrier))
               : "memory");
}
__device__ inline void arrive_and_expect(Barrier& barrier, int bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&barrier)),
      "r"(bytes)
      : "memory");
}
// Until the phase of this parity has ended; a new barrier is in phase 0.
__device__ inline void wait(Barrier& barrier, int parity) {
  asm volatile(
      "{.reg .pred done;\n"
      "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;}" ::"r"(shared_address(&barrier)),
      "r"(parity)
      : "memory");
}
// The box at these coordinates, innermost first; its bytes count on the barrier.
__device__ inline void copy_box(void* shared, const CUtensorMap& map, Barrier& barrier,
                                const int (&coordinates)[4]) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(shared_address(shared)),
      "l"(&map), "r"(shared_address(&barrier)), "r"(coordinates[0]), "r"(coordinates[1]),
      "r"(coordinates[2]), "r"(coordinates[3])
      : "memory");
}
__device__ inline void named_barrier_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ inline void named_barrier_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
template <int kRegisters>
__device__ inline void decrease_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void increase_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// Keeps what the compiler does with these registers on its side of what the hardware does.
template <int kTiles>
__device__ __forceinline__ void pin(float (&s)[kTiles][4]) {
#pragma unroll
  for (int j = 0; j < kTiles; ++j)
#pragma unroll
    for (int n = 0; n < 4; ++n) asm volatile("" : "+f"(s[j][n])::"memory");
}
__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Until all but the latest kPending groups have ended; `sums` are theirs.
template <int kPending, class... Sums>
__device__ __forceinline__ void wgmma_wait(Sums&... sums) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
  (pin(sums), ...);
}

// s = a b, or s += a b: 64 rows of a warpgroup, 16 deep. b lies along its columns (kTransposed) or
// along the depth.
#define FILIGREE_TILE(s, j) "+f"(s[j][0]), "+f"(s[j][1]), "+f"(s[j][2]), "+f"(s[j][3])
#define FILIGREE_EIGHT_TILES(s, j)                                                                \
  FILIGREE_TILE(s, j), FILIGREE_TILE(s, j + 1), FILIGREE_TILE(s, j + 2), FILIGREE_TILE(s, j + 3), \
      FILIGREE_TILE(s, j + 4), FILIGREE_TILE(s, j + 5), FILIGREE_TILE(s, j + 6),                  \
      FILIGREE_TILE(s, j + 7)
template <bool kTransposed>
__device__ __forceinline__ void wgmma(float (&s)[8][4], std::uint64_t a, std::uint64_t b,
                                      bool accumulate) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %34, 0; "
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
      "%32, %33, p, 1, 1, 0, %35;}"
      : FILIGREE_EIGHT_TILES(s, 0)
      : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(static_cast<int>(kTransposed)));
}
template <bool kTransposed>
__device__ __forceinline__ void wgmma(float (&s)[8][4], const std::uint32_t (&a)[4],
                                      std::uint64_t b, bool accumulate) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %37, 0; "
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
      "{%32, %33, %34, %35}, %36, p, 1, 1, %38;}"
      : FILIGREE_EIGHT_TILES(s, 0)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(accumulate)),
        "n"(static_cast<int>(kTransposed)));
}
template <bool kTransposed>
__device__ __forceinline__ void wgmma(float (&s)[16][4], std::uint64_t a, std::uint64_t b,
                                      bool accumulate) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %66, 0; "
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
      "%64, %65, p, 1, 1, 0, %67;}"
      : FILIGREE_EIGHT_TILES(s, 0), FILIGREE_EIGHT_TILES(s, 8)
      : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(static_cast<int>(kTransposed)));
}
template <bool kTransposed>
__device__ __forceinline__ void wgmma(float (&s)[16][4], const std::uint32_t (&a)[4],
                                      std::uint64_t b, bool accumulate) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %69, 0; "
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
      "{%64, %65, %66, %67}, %68, p, 1, 1, %70;}"
      : FILIGREE_EIGHT_TILES(s, 0), FILIGREE_EIGHT_TILES(s, 8)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(accumulate)),
        "n"(static_cast<int>(kTransposed)));
}
#undef FILIGREE_EIGHT_TILES
#undef FILIGREE_TILE

#endif

}  // namespace filigree::tile
