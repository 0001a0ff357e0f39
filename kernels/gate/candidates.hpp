// The candidates of every group as a table in device memory, for kernels that ask for them often:
// group_blocks divides.
#pragma once

#include "kernels/cuda/launch.hpp"
#include "kernels/gate/block_grid.hpp"

namespace filigree {

struct DeviceCandidates {
  std::int32_t begin, end;
  __device__ bool contains(std::int64_t m) const { return m >= begin && m < end; }
  __device__ std::int32_t size() const { return end - begin; }
};

// Internal linkage: this header is included by several sources.
static __global__ void __launch_bounds__(256)
    candidates_kernel(GridView grid, DeviceCandidates* candidates_BN) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::int64_t N = grid.groups();
  if (i >= grid.batch * N) return;
  const BlockRange range = group_blocks(grid, i / N, i % N).candidates;
  candidates_BN[i] = {static_cast<std::int32_t>(range.begin), static_cast<std::int32_t>(range.end)};
}

// [B, N] of DeviceCandidates, in memory of the context. Keep it while kernels read it.
class CandidateTable {
 public:
  CandidateTable(const GridView& grid, ExecutionContext& context)
      : table_(context.empty({grid.batch * grid.groups(), 2}, DType::i32)) {
    launch(context, {blocks_for(table_.dim(0), 256), 256}, candidates_kernel, grid,
           static_cast<DeviceCandidates*>(table_.raw()));
  }
  const DeviceCandidates* data() const { return static_cast<DeviceCandidates*>(table_.raw()); }

 private:
  Tensor table_;
};

}  // namespace filigree
