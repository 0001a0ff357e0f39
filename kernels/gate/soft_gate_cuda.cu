// A warp for each list. Limited by memory: lists and biases once, scores where they are listed.
#include "kernels/cuda/device.hpp"
#include "kernels/cuda/launch.hpp"
#include "kernels/gate/list_check.hpp"
#include "kernels/gate/soft_gate.hpp"

namespace filigree {
namespace {

constexpr int kWarps = 8;  // of a block of threads

struct Gate {
  GridView grid;
  const float* z_BHNM;
  const std::int32_t *counts_BHN, *indices_BHNJ;
  const std::uint8_t* dense_heads_H;  // may be null
  std::int64_t J;
  float strength;
};

// The slots [0, count) of a list, and the slot of the first largest score; -1: none has a score.
struct List {
  std::int64_t row, count, best;
  const std::int32_t* indices;
  const float* z;
  BlockRange candidates;

  __device__ bool has_score(std::int64_t s) const {
    return s < count && candidates.contains(indices[s]);
  }
};

// The whole warp comes here. False past the last row.
__device__ bool load_list(const Gate& gate, List& list) {
  const std::int64_t N = gate.grid.groups(), H = gate.grid.heads;
  list.row = static_cast<std::int64_t>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / kWarp;
  if (list.row >= gate.grid.batch * H * N) return false;
  list.indices = gate.indices_BHNJ + list.row * gate.J;
  list.z = gate.z_BHNM + list.row * gate.grid.key_blocks();
  list.candidates = group_blocks(gate.grid, list.row / (H * N), list.row % N).candidates;
  const bool is_dense = gate.dense_heads_H != nullptr && gate.dense_heads_H[list.row / N % H] != 0;
  list.count = is_dense ? 0 : gate.counts_BHN[list.row];
  std::int64_t best = -1;
  float largest = 0.0f;
  for (std::int64_t s = threadIdx.x % kWarp; s < list.count; s += kWarp)
    if (list.has_score(s) && (best < 0 || list.z[list.indices[s]] > largest)) {
      best = s;
      largest = list.z[list.indices[s]];
    }
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    const std::int64_t other = __shfl_xor_sync(kWholeWarp, best, distance);
    const float other_largest = __shfl_xor_sync(kWholeWarp, largest, distance);
    const bool is_first = other_largest > largest || (other_largest == largest && other < best);
    if (other >= 0 && (best < 0 || is_first)) {
      best = other;
      largest = other_largest;
    }
  }
  list.best = best;
  return true;
}

__global__ void __launch_bounds__(kWarps* kWarp) bias_kernel(Gate gate, float* bias_BHNJ) {
  List list;
  if (!load_list(gate, list)) return;
  const float largest = list.best < 0 ? 0.0f : list.z[list.indices[list.best]];
  float* const bias = bias_BHNJ + list.row * gate.J;
  for (std::int64_t s = threadIdx.x % kWarp; s < gate.J; s += kWarp)
    bias[s] = list.has_score(s) ? gate.strength * (list.z[list.indices[s]] - largest) : 0.0f;
}

__global__ void __launch_bounds__(kWarps* kWarp)
    bias_gradient_kernel(Gate gate, const float* dbias_BHNJ, float* dz_BHNM, bool accumulate) {
  List list;
  if (!load_list(gate, list)) return;
  const int lane = threadIdx.x % kWarp;
  const std::int64_t M = gate.grid.key_blocks();
  const float* const dbias = dbias_BHNJ + list.row * gate.J;
  float* const dz = dz_BHNM + list.row * M;
  if (!accumulate)
    for (std::int64_t m = lane; m < M; m += kWarp) dz[m] = 0.0f;
  __syncwarp();  // zeros are there before another lane adds to them
  if (list.best < 0) return;
  float others = 0.0f;  // the best slot's own term cancels
  for (std::int64_t s = lane; s < list.count; s += kWarp)
    if (list.has_score(s) && s != list.best) {
      others += dbias[s];
      dz[list.indices[s]] += gate.strength * dbias[s];
    }
  others = warp_sum(others);
  if (lane == 0) dz[list.indices[list.best]] -= gate.strength * others;
}

template <class Arguments>
Gate gate_of(const Arguments& a) {
  return {.grid = a.grid.view(),
          .z_BHNM = device_data<float>(a.z_BHNM),
          .counts_BHN = device_data<std::int32_t>(a.counts_BHN),
          .indices_BHNJ = device_data<std::int32_t>(a.indices_BHNJ),
          .dense_heads_H = device_data<std::uint8_t>(a.dense_heads_H),
          .J = columns_of(a.indices_BHNJ),
          .strength = static_cast<float>(a.strength)};
}

LaunchShape shape_of(const BlockGrid& grid) {
  return {blocks_for(list_rows(grid), kWarps), kWarps * kWarp};
}

}  // namespace

void SoftGateBias::cuda(const Arguments& a, ExecutionContext& context) {
  launch(context, shape_of(a.grid), bias_kernel, gate_of(a), device_data<float>(a.bias_BHNJ));
}

void SoftGateBiasBackward::cuda(const Arguments& a, ExecutionContext& context) {
  launch(context, shape_of(a.grid), bias_gradient_kernel, gate_of(a),
         device_data<float>(a.dbias_BHNJ), device_data<float>(a.dz_BHNM), a.accumulate);
}

}  // namespace filigree
