// Host entries of the test kernels for compute capability 9.0. `wrong` names a mistake to make.
#pragma once

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace simt_test {

enum class HopperMistake {
  none,
  no_wait,              // the wait for a barrier left out
  wrong_phase,          // waiting for the phase before the first
  too_many_bytes,       // more announced than the copy brings
  too_few_bytes,        // fewer
  no_barrier_fence,     // fence.mbarrier_init left out
  misaligned,           // a box, or a descriptor, 128 bytes off
  no_proxy_fence,       // stores handed to wgmma without fence.proxy.async
  no_register_fence,    // wgmma.fence left out
  read_too_early,       // sums read before the wait for their group
  wrong_count,          // a named barrier with two sizes; setmaxnreg.dec to more registers
  part_of_a_warpgroup,  // a warp of a warpgroup asks for other registers
};

struct Box {
  int rows;
  int at[4];
};

constexpr int kColumnsOfRing = 64;

// out[rows * 64] = shared memory after the copy of a box of 64 columns to its begin.
void copy_of_box(const CUtensorMap& map, __nv_bfloat16* out, Box box, cudaStream_t stream,
                 HopperMistake wrong = HopperMistake::none);
// sums[64] = of the columns of 8 * boxes rows, brought in boxes of 8 rows through two stages.
void ring_of_boxes(const CUtensorMap& map, float* sums, int boxes, cudaStream_t stream,
                   HopperMistake wrong = HopperMistake::none);
// out[64, columns] = a b, 64 deep; columns 64 or 128. a: [64, 64] in boxes of 64 rows; b:
// [columns, 64] in boxes of `columns` rows or, transposed, [64, columns] in boxes of 64.
void warpgroup_product(const CUtensorMap& a, const CUtensorMap& b, float* out, int columns,
                       bool b_is_transposed, bool a_in_registers, cudaStream_t stream,
                       HopperMistake wrong = HopperMistake::none);
// Of a tile of 128 x 128 at the begin of shared memory: out[0] of the operand along the depth from
// row 64 on, columns 80 to 95; out[1] of the one across it, rows 48 to 63.
void descriptors(std::uint64_t* out, cudaStream_t stream);
// out[i] = i + 3 * rounds, added up in turns by two groups of threads.
void ping_pong(int* out, int rounds, cudaStream_t stream,
               HopperMistake wrong = HopperMistake::none);
// out[256] = 1, after setmaxnreg.
void deal_out_registers(int* out, cudaStream_t stream, HopperMistake wrong = HopperMistake::none);

}  // namespace simt_test
