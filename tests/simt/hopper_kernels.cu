#include "kernels/cuda/tile/swizzled_tile.hpp"
#include "tests/simt/device.hpp"
#include "tests/simt/hopper_kernels.hpp"

namespace simt_test {
namespace {

using namespace filigree::tile;
using simt_test::dynamic_shared;

constexpr int kPanelColumns = 64, kRowBytes = 128;

// PTX ISA, "Matrix Descriptor Format"; written out again, so that a mistake in the project's own
// does not hide behind itself.
__device__ std::uint64_t descriptor(const unsigned char* start, unsigned leading) {
  const std::uint64_t address = shared_address(start);
  return (address >> 4) | static_cast<std::uint64_t>(leading >> 4) << 16 |
         static_cast<std::uint64_t>(1024 >> 4) << 32 | std::uint64_t{1} << 62;
}

// One box to shared memory; out: the bytes as they lie there.
__global__ void box_kernel(const __grid_constant__ CUtensorMap map, __nv_bfloat16* out, Box box,
                           HopperMistake wrong) {
  if constexpr (kHasHopperInstructions) {
    unsigned char* const shared = dynamic_shared();
    const int bytes = box.rows * kRowBytes;
    Barrier& landed = *reinterpret_cast<Barrier*>(shared + bytes + 1024);
    if (threadIdx.x == 0) {
      init(landed, 1);
      if (wrong != HopperMistake::no_barrier_fence) fence_mbarrier_init();
    }
    __syncthreads();
    unsigned char* const to = shared + (wrong == HopperMistake::misaligned ? 128 : 0);
    if (threadIdx.x == 32) {
      const int announced = bytes + (wrong == HopperMistake::too_many_bytes  ? 16
                                     : wrong == HopperMistake::too_few_bytes ? -16
                                                                             : 0);
      arrive_and_expect(landed, announced);
      copy_box(to, map, landed, {box.at[0], box.at[1], box.at[2], box.at[3]});
    }
    if (wrong == HopperMistake::no_wait)
      __syncthreads();
    else
      wait(landed, wrong == HopperMistake::wrong_phase ? 1 : 0);
    const auto* const values = reinterpret_cast<const __nv_bfloat16*>(to);
    for (int i = static_cast<int>(threadIdx.x); i < box.rows * kPanelColumns;
         i += static_cast<int>(blockDim.x))
      out[i] = values[i];
    if (wrong == HopperMistake::no_wait) wait(landed, 0);
  }
}

// A warp brings `boxes` boxes of 8 rows through two stages; another one sums each column.
__global__ void ring_kernel(const __grid_constant__ CUtensorMap map, float* sums, int boxes,
                            HopperMistake wrong) {
  if constexpr (kHasHopperInstructions) {
    constexpr int kStages = 2, kBytes = 8 * kRowBytes;
    unsigned char* const shared = dynamic_shared();
    Barrier* const full = reinterpret_cast<Barrier*>(shared + kStages * kBytes);
    Barrier* const empty = full + kStages;
    if (threadIdx.x == 0) {
      for (int s = 0; s < kStages; ++s) init(full[s], 1), init(empty[s], kColumnsOfRing);
      fence_mbarrier_init();
    }
    __syncthreads();
    if (threadIdx.x >= kColumnsOfRing) {
      if (threadIdx.x != kColumnsOfRing) return;
      for (int n = 0; n < boxes; ++n) {
        const int stage = n % kStages;
        if (wrong != HopperMistake::no_wait) wait(empty[stage], n / kStages % 2 ^ 1);
        arrive_and_expect(full[stage], kBytes);
        copy_box(shared + stage * kBytes, map, full[stage], {0, 0, 8 * n, 0});
      }
      return;
    }
    float sum = 0.0f;
    const int column = static_cast<int>(threadIdx.x);
    for (int n = 0; n < boxes; ++n) {
      const int stage = n % kStages;
      wait(full[stage], n / kStages % 2);
      for (int r = 0; r < 8; ++r) {
        const int chunk = column / 8 ^ r;
        sum += __bfloat162float(reinterpret_cast<const __nv_bfloat16*>(
            shared + stage * kBytes)[r * kPanelColumns + chunk * 8 + column % 8]);
      }
      arrive(empty[stage]);
    }
    sums[column] = sum;
  }
}

// out[64, kTiles * 8] = a b, 64 deep. a: [64, 64]; b: [columns, 64] or, kTransposed, [64, columns].
template <bool kTransposed, int kTiles>
__global__ void warpgroup_product_kernel(const __grid_constant__ CUtensorMap a,
                                         const __grid_constant__ CUtensorMap b, float* out,
                                         bool a_in_registers, HopperMistake wrong) {
  if constexpr (kHasHopperInstructions) {
    constexpr int kColumns = 8 * kTiles;
    constexpr int kPanels = kTransposed ? kColumns / kPanelColumns : 1;
    constexpr int kRowsOfB = kTransposed ? 64 : kColumns;
    unsigned char* const left = dynamic_shared();
    unsigned char* const right = left + 64 * kRowBytes;
    Barrier& landed = *reinterpret_cast<Barrier*>(right + kPanels * kRowsOfB * kRowBytes);
    const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
    if (thread == 0) {
      init(landed, 1);
      fence_mbarrier_init();
    }
    __syncthreads();
    if (thread == 0) {
      arrive_and_expect(landed, (64 + kPanels * kRowsOfB) * kRowBytes);
      copy_box(left, a, landed, {0, 0, 0, 0});
      for (int panel = 0; panel < kPanels; ++panel)
        copy_box(right + panel * kRowsOfB * kRowBytes, b, landed, {panel * kPanelColumns, 0, 0, 0});
    }
    if (wrong != HopperMistake::no_wait) wait(landed, 0);
    if (wrong == HopperMistake::no_proxy_fence) {
      __syncthreads();
      reinterpret_cast<__nv_bfloat16*>(right)[thread] = __float2bfloat16(1.0f);
      __syncthreads();
    }
    float sums[kTiles][4];
    std::uint32_t fragment[4][4];
    // Row r, columns c and c + 1 of a.
    const auto pair = [&](int r, int c) {
      return *reinterpret_cast<const std::uint32_t*>(left + r * kRowBytes + (c / 8 ^ r % 8) * 16 +
                                                     c % 8 * 2);
    };
    for (int step = 0; a_in_registers && step < 4; ++step)
      for (int r = 0; r < 4; ++r)
        fragment[step][r] =
            pair(16 * warp + lane / 4 + r % 2 * 8, 16 * step + lane % 4 * 2 + r / 2 * 8);
    if (wrong != HopperMistake::no_register_fence) wgmma_fence();
#pragma unroll
    for (int step = 0; step < 4; ++step) {
      const unsigned char* start = kTransposed ? right + step * 16 * kRowBytes : right + step * 32;
      if (wrong == HopperMistake::misaligned) start += 128;
      const std::uint64_t operand = descriptor(start, kRowsOfB * kRowBytes);
      if (a_in_registers)
        wgmma<kTransposed>(sums, fragment[step], operand, step > 0);
      else
        wgmma<kTransposed>(sums, descriptor(left + step * 32, 16), operand, step > 0);
    }
    wgmma_commit();
    if (wrong == HopperMistake::read_too_early)
      wgmma_wait<1>();
    else
      wgmma_wait<0>(sums);
    for (int i = 0; i < 4 * kTiles; ++i)
      out[(16 * warp + lane / 4 + i % 4 / 2 * 8) * kColumns + i / 4 * 8 + lane % 4 * 2 + i % 2] =
          sums[i / 4][i % 4];
    if (wrong == HopperMistake::read_too_early) wgmma_wait<0>(sums);
    if (wrong == HopperMistake::no_wait) wait(landed, 0);
  }
}

// Two groups of 64 threads pass values to each other and back, `rounds` times.
__global__ void ping_pong_kernel(int* out, int rounds, HopperMistake wrong) {
  if constexpr (kHasHopperInstructions) {
    int* const box = reinterpret_cast<int*>(dynamic_shared());
    const int group = static_cast<int>(threadIdx.x) / 64, i = static_cast<int>(threadIdx.x) % 64;
    const int threads = wrong == HopperMistake::wrong_count && group == 1 ? 96 : 128;
    if (group == 0) box[i] = i;
    for (int round = 0; round < rounds; ++round) {
      if (group == 0) {
        named_barrier_arrive(1, threads);
        if (wrong != HopperMistake::no_wait) named_barrier_sync(2, threads);
        box[(i + 1) % 64] += 1;
      } else {
        named_barrier_sync(1, threads);
        box[i] += 2;
        named_barrier_arrive(2, threads);
      }
      if (group == 0) named_barrier_sync(3, 64);
    }
    if (group == 0) out[i] = box[i];
  }
}

// Two warpgroups deal out registers.
__global__ void registers_kernel(int* out, HopperMistake wrong) {
  if constexpr (kHasHopperInstructions) {
    if (threadIdx.x < kWarpgroup) {
      decrease_registers<40>();
    } else if (wrong == HopperMistake::wrong_count) {
      increase_registers<232>();
      decrease_registers<240>();
    } else if (wrong == HopperMistake::part_of_a_warpgroup && threadIdx.x >= kWarpgroup + 32) {
      increase_registers<240>();
    } else {
      increase_registers<232>();
    }
    out[threadIdx.x] = 1;
  }
}

__global__ void descriptors_kernel(std::uint64_t* out) {
  if constexpr (kHasHopperInstructions) {
    const auto& tile = *reinterpret_cast<const SwizzledTile<128, 128>*>(dynamic_shared());
    out[0] = along_depth(tile, 64, 5);
    out[1] = across_depth(tile, 3);
  }
}

template <bool kTransposed, int kTiles>
void launch_product(const CUtensorMap& a, const CUtensorMap& b, float* out, bool a_in_registers,
                    cudaStream_t stream, HopperMistake wrong) {
  launch(warpgroup_product_kernel<kTransposed, kTiles>, dim3(1), dim3(kWarpgroup),
         (64 + 8 * kTiles) * kRowBytes + 1024, stream, a, b, out, a_in_registers, wrong);
}

}  // namespace

void copy_of_box(const CUtensorMap& map, __nv_bfloat16* out, Box box, cudaStream_t stream,
                 HopperMistake wrong) {
  launch(box_kernel, dim3(1), dim3(64), static_cast<std::size_t>(box.rows * kRowBytes + 2048),
         stream, map, out, box, wrong);
}

void ring_of_boxes(const CUtensorMap& map, float* sums, int boxes, cudaStream_t stream,
                   HopperMistake wrong) {
  launch(ring_kernel, dim3(1), dim3(kColumnsOfRing + 32), 4096, stream, map, sums, boxes, wrong);
}

void warpgroup_product(const CUtensorMap& a, const CUtensorMap& b, float* out, int columns,
                       bool b_is_transposed, bool a_in_registers, cudaStream_t stream,
                       HopperMistake wrong) {
  if (columns == 64 && b_is_transposed)
    launch_product<true, 8>(a, b, out, a_in_registers, stream, wrong);
  else if (columns == 64)
    launch_product<false, 8>(a, b, out, a_in_registers, stream, wrong);
  else if (b_is_transposed)
    launch_product<true, 16>(a, b, out, a_in_registers, stream, wrong);
  else
    launch_product<false, 16>(a, b, out, a_in_registers, stream, wrong);
}

void descriptors(std::uint64_t* out, cudaStream_t stream) {
  launch(descriptors_kernel, dim3(1), dim3(1), 128 * 128 * 2, stream, out);
}

void ping_pong(int* out, int rounds, cudaStream_t stream, HopperMistake wrong) {
  launch(ping_pong_kernel, dim3(1), dim3(128), 256, stream, out, rounds, wrong);
}

void deal_out_registers(int* out, cudaStream_t stream, HopperMistake wrong) {
  launch(registers_kernel, dim3(1), dim3(2 * kWarpgroup), 0, stream, out, wrong);
}

}  // namespace simt_test
