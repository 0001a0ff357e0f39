// On the tiles of product_tile.hpp, which limit it. Tiles without a candidate are not multiplied:
// half of a causal grid.
#include "kernels/cuda/launch.hpp"
#include "kernels/gate/candidates.hpp"
#include "kernels/gate/gate_scores.hpp"
#include "kernels/gate/product_tile.hpp"

namespace filigree {
namespace {

constexpr int kTile = 64;
using Tile = ProductTile<kTile, kTile>;

// Gate features [B*L, H*E] of one head of one sequence; 0 outside.
template <class T>
struct Features {
  T* data;
  std::int64_t length, width, stride;

  __device__ Features(T* all, std::int64_t sequence, std::int64_t head, std::int64_t heads,
                      std::int64_t length, std::int64_t width)
      : data(all + sequence * length * heads * width + head * width),
        length(length),
        width(width),
        stride(heads * width) {}
  __device__ float load(std::int64_t row, std::int64_t column) const {
    return row < length && column < width ? to_float(data[row * stride + column]) : 0.0f;
  }
  __device__ void store(std::int64_t row, std::int64_t column, float value) const {
    if (row < length && column < width)
      data[row * stride + column] = from_float<std::remove_const_t<T>>(value);
  }
};

// What a block of threads works on: tile x of head z of sequence y.
struct Place {
  std::int64_t sequence, head, N, M, E;
  const DeviceCandidates* candidates;  // of the sequence's groups
  __device__ std::int64_t row_of_scores() const { return (sequence * gridDim.z + head) * N * M; }
};
__device__ Place place(const GridView& grid, const DeviceCandidates* candidates_BN,
                       std::int64_t width) {
  const std::int64_t N = grid.groups();
  return {blockIdx.y, blockIdx.z, N, grid.key_blocks(), width, candidates_BN + blockIdx.y * N};
}

// Blocks that no group up to n has as a candidate: [bound, M).
__device__ std::int64_t candidate_bound(const GridView& grid, std::int64_t n, std::int64_t M) {
  return grid.causal ? GridSizes::smaller(M, grid.first_position(n) / grid.key_block + 1) : M;
}
// No group before this one has block m as a candidate.
__device__ std::int64_t first_reader(const GridView& grid, std::int64_t m) {
  const std::int64_t n = m * grid.key_block / grid.query_block - grid.first_group();
  return grid.causal ? GridSizes::larger(0, n) : 0;
}

template <class T>
__global__ void __launch_bounds__(kProductThreads)
    scores_kernel(GridView grid, const DeviceCandidates* candidates_BN, const T* qg, const T* kg,
                  float* z, std::int64_t width, float scale) {
  __shared__ Tile::Shared shared;
  const Place at = place(grid, candidates_BN, width);
  const std::int64_t column_tiles = (at.M + kTile - 1) / kTile;
  const std::int64_t n0 = blockIdx.x / column_tiles * kTile;
  const std::int64_t m0 = blockIdx.x % column_tiles * kTile;
  bool is_read = false;
  if (threadIdx.x < kTile && n0 + threadIdx.x < at.N) {
    const DeviceCandidates c = at.candidates[n0 + threadIdx.x];
    is_read = c.begin < m0 + kTile && c.end > m0 && c.begin < c.end;
  }
  Tile tile;
  if (__syncthreads_or(is_read)) {
    const Features<const T> q(qg, at.sequence, at.head, grid.heads, at.N, width);
    const Features<const T> k(kg, at.sequence, at.head, grid.heads, at.M, width);
    tile.add<true, true>(
        shared, 0, width, [&](int r, std::int64_t e) { return q.load(n0 + r, e); },
        [&](std::int64_t e, int c) { return k.load(m0 + c, e); });
  }
  float* const to = z + at.row_of_scores();
  tile.for_each([&](int r, int c, float sum) {
    const std::int64_t n = n0 + r, m = m0 + c;
    if (n < at.N && m < at.M)
      to[n * at.M + m] = at.candidates[n].contains(m) ? scale * sum : -INFINITY;
  });
}

// dqg: rows of groups, summed over blocks.
template <class T>
__global__ void __launch_bounds__(kProductThreads)
    query_gradient_kernel(GridView grid, const DeviceCandidates* candidates_BN, const float* dz,
                          const T* kg, T* dqg, std::int64_t width, float scale) {
  __shared__ Tile::Shared shared;
  const Place at = place(grid, candidates_BN, width);
  const std::int64_t column_tiles = (width + kTile - 1) / kTile;
  const std::int64_t n0 = blockIdx.x / column_tiles * kTile;
  const std::int64_t e0 = blockIdx.x % column_tiles * kTile;
  const std::int64_t end = candidate_bound(grid, GridSizes::smaller(at.N, n0 + kTile) - 1, at.M);
  const float* const from = dz + at.row_of_scores();
  const Features<const T> k(kg, at.sequence, at.head, grid.heads, at.M, width);
  Tile tile;
  tile.add<true, false>(
      shared, 0, end,
      [&](int r, std::int64_t m) {
        const std::int64_t n = n0 + r;
        return n < at.N && at.candidates[n].contains(m) ? from[n * at.M + m] : 0.0f;
      },
      [&](std::int64_t m, int c) { return k.load(m, e0 + c); });
  const Features<T> to(dqg, at.sequence, at.head, grid.heads, at.N, width);
  tile.for_each([&](int r, int c, float sum) { to.store(n0 + r, e0 + c, scale * sum); });
}

// dkg: rows of blocks, summed over groups.
template <class T>
__global__ void __launch_bounds__(kProductThreads)
    key_gradient_kernel(GridView grid, const DeviceCandidates* candidates_BN, const float* dz,
                        const T* qg, T* dkg, std::int64_t width, float scale) {
  __shared__ Tile::Shared shared;
  const Place at = place(grid, candidates_BN, width);
  const std::int64_t column_tiles = (width + kTile - 1) / kTile;
  const std::int64_t m0 = blockIdx.x / column_tiles * kTile;
  const std::int64_t e0 = blockIdx.x % column_tiles * kTile;
  const float* const from = dz + at.row_of_scores();
  const Features<const T> q(qg, at.sequence, at.head, grid.heads, at.N, width);
  Tile tile;
  tile.add<false, false>(
      shared, first_reader(grid, m0), at.N,
      [&](int r, std::int64_t n) {
        const std::int64_t m = m0 + r;
        return m < at.M && at.candidates[n].contains(m) ? from[n * at.M + m] : 0.0f;
      },
      [&](std::int64_t n, int c) { return q.load(n, e0 + c); });
  const Features<T> to(dkg, at.sequence, at.head, grid.heads, at.M, width);
  tile.for_each([&](int r, int c, float sum) { to.store(m0 + r, e0 + c, scale * sum); });
}

LaunchShape shape_of(const GridView& grid, std::int64_t rows, std::int64_t columns) {
  return {dim3(blocks_for(rows, kTile) * blocks_for(columns, kTile),
               static_cast<unsigned>(grid.batch), static_cast<unsigned>(grid.heads)),
          kProductThreads};
}

}  // namespace

void GateScores::cuda(const Arguments& a, ExecutionContext& context) {
  const GridView grid = a.grid.view();
  const CandidateTable candidates(grid, context);
  visit_device(a.qg_NHE.dtype(), [&](auto type) {
    using T = decltype(type);
    launch(context, shape_of(grid, grid.groups(), grid.key_blocks()), scores_kernel<T>, grid,
           candidates.data(), device_data<T>(a.qg_NHE), device_data<T>(a.kg_MHE),
           device_data<float>(a.z_BHNM), a.qg_NHE.dim(1) / grid.heads, static_cast<float>(a.scale));
  });
}

void GateScoresBackward::cuda(const Arguments& a, ExecutionContext& context) {
  const GridView grid = a.grid.view();
  const CandidateTable candidates(grid, context);
  const std::int64_t E = a.qg_NHE.dim(1) / grid.heads;
  const auto scale = static_cast<float>(a.scale);
  visit_device(a.qg_NHE.dtype(), [&](auto type) {
    using T = decltype(type);
    launch(context, shape_of(grid, grid.groups(), E), query_gradient_kernel<T>, grid,
           candidates.data(), device_data<float>(a.dz_BHNM), device_data<T>(a.kg_MHE),
           device_data<T>(a.dqg_NHE), E, scale);
    launch(context, shape_of(grid, grid.key_blocks(), E), key_gradient_kernel<T>, grid,
           candidates.data(), device_data<float>(a.dz_BHNM), device_data<T>(a.qg_NHE),
           device_data<T>(a.dkg_MHE), E, scale);
  });
}

}  // namespace filigree
