#include "kernels/cuda/device.hpp"
#include "kernels/cuda/launch.hpp"
#include "kernels/gate/gate_statistics.hpp"

namespace filigree {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kGroups = 64;  // whose lists a block of threads counts

struct Lists {
  GridView grid;
  const std::int32_t *counts_BHN, *indices_BHNJ;
  std::int64_t J;
};

// Pairs of the queries of a group with the keys [begin, end) of a block. A block before the
// diagonal is seen whole where there are no documents.
__device__ std::int64_t pairs_of(const GridView& grid, std::int64_t b, std::int64_t n,
                                 BlockRange keys) {
  const std::int64_t first = grid.first_query(n), end = grid.end_position(n);
  if (!grid.causal || (grid.document_begin == nullptr && keys.end <= first + 1))
    return (end - first) * keys.size();
  std::int64_t pairs = 0;
  for (std::int64_t p = first; p < end; ++p) {
    const BlockRange seen = visible_key_range(grid, b, p);
    pairs += GridSizes::larger(
        0, GridSizes::smaller(keys.end, seen.end) - GridSizes::larger(keys.begin, seen.begin));
  }
  return pairs;
}

// Integers may be added in any order.
__device__ void add(std::int64_t value, std::int64_t* scratch, std::int64_t* to) {
  value = block_sum(value, scratch);
  if (threadIdx.x == 0)
    atomicAdd(reinterpret_cast<unsigned long long*>(to), static_cast<unsigned long long>(value));
}

// Chunk x of the groups of head y in sequence z, added to the counts of the head.
__global__ void __launch_bounds__(kThreads)
    count_kernel(Lists lists, std::int64_t* pairs_H, std::int64_t* blocks_H,
                 std::int64_t* forced_H) {
  __shared__ std::int64_t scratch[kWarp];
  const GridView& grid = lists.grid;
  const std::int64_t N = grid.groups(), b = blockIdx.z, h = blockIdx.y;
  const std::int64_t n0 = blockIdx.x * kGroups, n1 = GridSizes::smaller(N, n0 + kGroups);
  std::int64_t pairs = 0, blocks = 0, forced = 0;
  for (std::int64_t i = threadIdx.x; i < (n1 - n0) * lists.J; i += kThreads) {
    const std::int64_t n = n0 + i / lists.J, row = (b * grid.heads + h) * N + n;
    if (i % lists.J >= lists.counts_BHN[row]) continue;
    const std::int64_t m = lists.indices_BHNJ[row * lists.J + i % lists.J];
    const std::int64_t begin = m * grid.key_block;
    pairs +=
        pairs_of(grid, b, n, {begin, GridSizes::smaller(grid.key_length, begin + grid.key_block)});
    forced += group_blocks(grid, b, n).is_forced(m);
    ++blocks;
  }
  add(pairs, scratch, pairs_H + h);
  add(blocks, scratch, blocks_H + h);
  add(forced, scratch, forced_H + h);
}

struct Teacher {
  const std::int32_t* groups_R;
  const float *teacher_BHRM, *weight_BHR;
  std::int64_t R;
};

// A warp for each row: weight times the teacher's mass on the listed blocks.
__global__ void __launch_bounds__(kThreads)
    caught_kernel(Lists lists, Teacher teacher, float* caught_BHR) {
  const std::int64_t row = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kWarp;
  if (row >= lists.grid.batch * lists.grid.heads * teacher.R) return;
  const std::int64_t list =
      row / teacher.R * lists.grid.groups() + teacher.groups_R[row % teacher.R];
  const float* const mass = teacher.teacher_BHRM + row * lists.grid.key_blocks();
  float sum = 0.0f;
  for (std::int64_t s = threadIdx.x % kWarp; s < lists.counts_BHN[list]; s += kWarp)
    sum += mass[lists.indices_BHNJ[list * lists.J + s]];
  sum = warp_sum(sum);
  if (threadIdx.x % kWarp == 0) caught_BHR[row] = teacher.weight_BHR[row] * sum;
}

// to[x] = sum over sequences and rows of values[b, x, r], in f64 and in one order.
__global__ void __launch_bounds__(kThreads)
    sum_of_head_kernel(const float* values_BHR, std::int64_t batch, std::int64_t R, float* to) {
  __shared__ double scratch[kWarp];
  double sum = 0.0;
  for (std::int64_t i = threadIdx.x; i < batch * R; i += kThreads)
    sum += static_cast<double>(values_BHR[(i / R * gridDim.x + blockIdx.x) * R + i % R]);
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) to[blockIdx.x] = static_cast<float>(sum);
}

template <class Arguments>
Lists lists_of(const Arguments& a) {
  return {.grid = a.grid.view(),
          .counts_BHN = device_data<std::int32_t>(a.counts_BHN),
          .indices_BHNJ = device_data<std::int32_t>(a.indices_BHNJ),
          .J = columns_of(a.indices_BHNJ)};
}

}  // namespace

void ListStatistics::cuda(const Arguments& a, ExecutionContext& context) {
  for (const Tensor& sums : {a.pairs_H, a.blocks_H, a.forced_H}) context.zero(sums);
  const dim3 grid(blocks_for(a.grid.groups(), kGroups), static_cast<unsigned>(a.grid.heads),
                  static_cast<unsigned>(a.grid.batch));
  launch(context, {grid, kThreads}, count_kernel, lists_of(a), device_data<std::int64_t>(a.pairs_H),
         device_data<std::int64_t>(a.blocks_H), device_data<std::int64_t>(a.forced_H));
}

void GateRecall::cuda(const Arguments& a, ExecutionContext& context) {
  const std::int64_t R = a.groups_R.numel();
  const Teacher teacher{device_data<std::int32_t>(a.groups_R), device_data<float>(a.teacher_BHRM),
                        device_data<float>(a.weight_BHR), R};
  const Tensor caught = context.empty(a.weight_BHR.shape(), DType::f32);
  launch(context, {blocks_for(a.weight_BHR.numel(), kThreads / kWarp), kThreads}, caught_kernel,
         lists_of(a), teacher, device_data<float>(caught));
  const LaunchShape heads{static_cast<unsigned>(a.grid.heads), kThreads};
  launch(context, heads, sum_of_head_kernel, device_data<float>(caught), a.grid.batch, R,
         device_data<float>(a.caught_H));
  launch(context, heads, sum_of_head_kernel, teacher.weight_BHR, a.grid.batch, R,
         device_data<float>(a.total_H));
}

}  // namespace filigree
