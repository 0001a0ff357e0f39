// Three kernels, of which the first two multiply queries and keys on the tiles of product_tile.hpp,
// which limit them: statistics of each sampled query's softmax, streamed over its keys; then, with
// those, the probabilities of one key block after another, reduced on the spot; then rows of the
// teacher. Products are done twice, so that nothing of queries x keys or queries x blocks is kept.
#include "kernels/cuda/launch.hpp"
#include "kernels/gate/block_mass.hpp"
#include "kernels/gate/candidates.hpp"
#include "kernels/gate/product_tile.hpp"

namespace filigree {
namespace {

constexpr int kTile = 64;
using Tile = ProductTile<kTile, kTile>;
constexpr std::int64_t kBlocksPerTask = 32;  // key blocks of a task of the second kernel

// One query's softmax: largest logit, and relative to it sum_j exp(s - top) and
// sum_j (s - top) exp(s - top).
struct Softmax {
  float top, total, moment;

  __device__ void merge(const Softmax& other) {
    const float largest = fmaxf(top, other.top);
    if (largest == -INFINITY) return;
    rebase(largest);
    Softmax added = other;
    added.rebase(largest);
    total += added.total;
    moment += added.moment;
  }

 private:
  __device__ void rebase(float largest) {
    const float shift = top - largest, factor = expf(shift);
    moment = factor > 0.0f ? factor * (moment + shift * total) : 0.0f;
    total *= factor;
    top = largest;
  }
};

template <class T>
struct Problem {
  GridView grid;
  const T *q_THK, *k_TGK;
  const std::int32_t* groups_R;
  std::int64_t R, K, kv_heads;
  std::int64_t groups_per_tile, parts;  // whole groups of a tile of queries, or tiles of a group
  float scale;
  Softmax* softmax_Q;  // [B, H, R, query_block]

  __device__ std::int64_t tiles() const { return (R + groups_per_tile - 1) / groups_per_tile; }
};

// A tile of queries of one head of one sequence: the groups [first, first + groups_per_tile) of the
// sample, or the 64 queries `part` of one.
template <class T>
struct Queries {
  const Problem<T>& problem;
  std::int64_t sequence, head, first, part;

  struct Query {
    std::int64_t index;     // of its softmax; -1: there is no query in this lane
    std::int64_t position;  // among the keys
  };
  __device__ Query at(int lane) const {
    const GridView& grid = problem.grid;
    const bool whole = problem.parts == 1;
    const std::int64_t r = first + (whole ? lane / grid.query_block : 0);
    const std::int64_t offset = whole ? lane % grid.query_block : part * kTile + lane;
    if (r >= problem.R || r >= first + problem.groups_per_tile || offset >= grid.query_block)
      return {-1, 0};
    const std::int64_t n = problem.groups_R[r], position = grid.first_position(n) + offset;
    if (position < grid.query_offset || position >= grid.end_position(n)) return {-1, 0};
    return {((sequence * grid.heads + head) * problem.R + r) * grid.query_block + offset, position};
  }
};

// What the lanes of a tile see; in shared memory.
struct Lanes {
  std::int64_t index[kTile], row[kTile];  // of softmax_Q; of q, -1: none
  std::int64_t begin[kTile], end[kTile];  // visible keys
};

template <class T>
__device__ void load_lanes(const Queries<T>& queries, Lanes& lanes) {
  const GridView& grid = queries.problem.grid;
  __syncthreads();  // the lanes of the tile before are no longer read
  for (int lane = threadIdx.x; lane < kTile; lane += kProductThreads) {
    const auto query = queries.at(lane);
    const bool exists = query.index >= 0;
    const BlockRange keys =
        exists ? visible_key_range(grid, queries.sequence, query.position) : BlockRange{};
    lanes.index[lane] = query.index;
    lanes.row[lane] =
        exists ? queries.sequence * grid.query_length + query.position - grid.query_offset : -1;
    lanes.begin[lane] = keys.begin;
    lanes.end[lane] = keys.end;
  }
  __syncthreads();
}

// The products of the tile's queries with the keys [j0, j0 + 64).
template <class T>
__device__ void multiply(const Queries<T>& queries, const Lanes& lanes, std::int64_t j0, Tile& tile,
                         Tile::Shared& shared) {
  const Problem<T>& p = queries.problem;
  const GridView& grid = p.grid;
  const std::int64_t kv = queries.head / (grid.heads / p.kv_heads);
  tile.add<true, true>(
      shared, 0, p.K,
      [&](int r, std::int64_t d) {
        const std::int64_t row = lanes.row[r];
        return row < 0 ? 0.0f : to_float(p.q_THK[(row * grid.heads + queries.head) * p.K + d]);
      },
      [&](std::int64_t d, int c) {
        const std::int64_t j = j0 + c, row = queries.sequence * grid.key_length + j;
        return j >= grid.key_length ? 0.0f : to_float(p.k_TGK[(row * p.kv_heads + kv) * p.K + d]);
      });
}

// Keys [begin, end) that any lane sees; every thread comes here.
__device__ BlockRange keys_of(const Lanes& lanes) {
  BlockRange keys;
  for (int lane = 0; lane < kTile; ++lane) {
    if (lanes.begin[lane] == lanes.end[lane]) continue;
    const bool is_first = keys.size() == 0;
    keys.begin = is_first ? lanes.begin[lane] : GridSizes::smaller(keys.begin, lanes.begin[lane]);
    keys.end = GridSizes::larger(keys.end, lanes.end[lane]);
  }
  return keys;
}

// The place of the block of threads: x = tile of the sample (and part of a group), y = head, z =
// sequence.
template <class T>
__device__ Queries<T> queries_of(const Problem<T>& problem, std::int64_t tile, std::int64_t part) {
  return {problem, blockIdx.z, blockIdx.y, tile * problem.groups_per_tile, part};
}

template <class T>
__global__ void __launch_bounds__(kProductThreads) softmax_kernel(Problem<T> problem) {
  __shared__ Tile::Shared shared;
  __shared__ Lanes lanes;
  const Queries<T> queries =
      queries_of(problem, blockIdx.x / problem.parts, blockIdx.x % problem.parts);
  load_lanes(queries, lanes);
  const BlockRange keys = keys_of(lanes);
  Softmax own[kMicro];
  for (Softmax& softmax : own) softmax = {-INFINITY, 0.0f, 0.0f};
  for (std::int64_t j0 = keys.begin; j0 < keys.end; j0 += kTile) {
    Tile tile;
    multiply(queries, lanes, j0, tile, shared);
#pragma unroll
    for (int i = 0; i < kMicro; ++i) {
      const int r = Tile::row() + i;
      const std::int64_t begin = lanes.begin[r], end = lanes.end[r];
      Softmax found{-INFINITY, 0.0f, 0.0f};
      float s[kMicro];
#pragma unroll
      for (int c = 0; c < kMicro; ++c) {
        const std::int64_t j = j0 + Tile::col() + c;
        s[c] = j >= begin && j < end ? problem.scale * tile.sum[i][c] : -INFINITY;
        found.top = fmaxf(found.top, s[c]);
      }
      if (found.top == -INFINITY) continue;
#pragma unroll
      for (int c = 0; c < kMicro; ++c) {
        const float below = s[c] - found.top, e = expf(below);
        found.total += e;
        found.moment += e > 0.0f ? below * e : 0.0f;
      }
      own[i].merge(found);
    }
  }
#pragma unroll
  for (int i = 0; i < kMicro; ++i) {  // the 16 threads of a row lie side by side in a warp
    for (int distance = Tile::kColThreads / 2; distance > 0; distance /= 2)
      own[i].merge({__shfl_xor_sync(kWholeWarp, own[i].top, distance),
                    __shfl_xor_sync(kWholeWarp, own[i].total, distance),
                    __shfl_xor_sync(kWholeWarp, own[i].moment, distance)});
    const std::int64_t index = lanes.index[Tile::row() + i];
    if (Tile::col() == 0 && index >= 0) problem.softmax_Q[index] = own[i];
  }
}

__device__ float combine(BlockStatistic statistic, float a, float b) {
  return statistic == BlockStatistic::maximum ? fmaxf(a, b) : a + b;
}

// p of the tile, then folded along its keys, then along the queries of a group.
struct Folds {
  float p[kTile][kTile + 1];
  float of_row[kTile][kTile + 1];  // [query][key block of the tile]
};

// g[m] of task's key blocks for the groups of a tile of queries. A tile of keys holds several whole
// blocks, or is one of several tiles of a block.
template <class T>
struct Folding {
  const Queries<T>& queries;
  const Lanes& lanes;
  Folds& folds;
  BlockStatistic statistic;
  std::int64_t blocks;  // of a tile
  std::int64_t j0, j1;  // its keys
  std::int64_t m0, m1;  // its first block; the task's last, past which a tile may reach

  // Every thread comes here.
  __device__ void probabilities(Tile::Shared& shared) const {
    Tile tile;
    multiply(queries, lanes, j0, tile, shared);
#pragma unroll
    for (int i = 0; i < kMicro; ++i) {
      const int r = Tile::row() + i;
      const std::int64_t index = lanes.index[r];
      const std::int64_t begin = lanes.begin[r], end = GridSizes::smaller(j1, lanes.end[r]);
      const Softmax softmax = index < 0 ? Softmax{} : queries.problem.softmax_Q[index];
#pragma unroll
      for (int c = 0; c < kMicro; ++c) {
        const std::int64_t j = j0 + Tile::col() + c;
        const float logit = queries.problem.scale * tile.sum[i][c];
        folds.p[r][Tile::col() + c] =
            j >= begin && j < end ? expf(logit - softmax.top) / softmax.total : 0.0f;
      }
    }
    __syncthreads();
    const std::int64_t key_block = queries.problem.grid.key_block;
    for (int i = threadIdx.x; i < kTile * blocks; i += kProductThreads) {
      const int r = i % kTile;
      const std::int64_t begin = i / kTile * key_block;
      const std::int64_t end = GridSizes::smaller(kTile, begin + key_block);
      float fold = 0.0f;
      for (std::int64_t c = begin; c < end; ++c) fold = combine(statistic, fold, folds.p[r][c]);
      folds.of_row[r][i / kTile] = fold;
    }
    __syncthreads();
  }

  // Into g, which is overwritten by the first tile of a group and a block and updated by the
  // others. Blocks that are no candidates get nothing. Every thread comes here.
  __device__ void groups(const DeviceCandidates* candidates_BN, float* g_BHRM,
                         bool is_first) const {
    const Problem<T>& problem = queries.problem;
    const GridView& grid = problem.grid;
    const std::int64_t rows = GridSizes::smaller(kTile, grid.query_block);
    for (int i = threadIdx.x; i < problem.groups_per_tile * blocks; i += kProductThreads) {
      const std::int64_t group = i / blocks, r = queries.first + group, m = m0 + i % blocks;
      if (r >= problem.R || m >= m1) continue;
      const std::int64_t n = problem.groups_R[r];
      if (!candidates_BN[queries.sequence * grid.groups() + n].contains(m)) continue;
      float fold = 0.0f;
      for (std::int64_t row = group * rows; row < (group + 1) * rows; ++row)
        fold = combine(statistic, fold, folds.of_row[row][i % blocks]);
      float& g = g_BHRM[((queries.sequence * grid.heads + queries.head) * problem.R + r) *
                            grid.key_blocks() +
                        m];
      g = is_first ? fold : combine(statistic, g, fold);
    }
    __syncthreads();  // of_row is free again; the same threads update g
  }
};

template <class T>
__global__ void __launch_bounds__(kProductThreads)
    mass_kernel(Problem<T> problem, const DeviceCandidates* candidates_BN, BlockStatistic statistic,
                float* g_BHRM) {
  __shared__ Tile::Shared shared;
  __shared__ Lanes lanes;
  __shared__ Folds folds;
  const GridView& grid = problem.grid;
  const std::int64_t key_block = grid.key_block, tile = blockIdx.x % problem.tiles();
  const std::int64_t blocks = GridSizes::larger(1, kTile / key_block);
  const std::int64_t task = blockIdx.x / problem.tiles() * kBlocksPerTask;
  std::int64_t last = 0;  // blocks that are candidates of any group: [0, last)
  for (std::int64_t r = tile * problem.groups_per_tile;
       r < GridSizes::smaller(problem.R, (tile + 1) * problem.groups_per_tile); ++r)
    last = GridSizes::larger(last,
                             candidates_BN[blockIdx.z * grid.groups() + problem.groups_R[r]].end);
  const std::int64_t end = GridSizes::smaller(last, task + kBlocksPerTask);
  for (std::int64_t part = 0; part < problem.parts && task < end; ++part) {
    const Queries<T> queries = queries_of(problem, tile, part);
    load_lanes(queries, lanes);
    for (std::int64_t m = task; m < end; m += blocks) {
      const std::int64_t j1 = GridSizes::smaller(grid.key_length, (m + blocks) * key_block);
      for (std::int64_t j0 = m * key_block; j0 < j1; j0 += kTile) {
        const Folding<T> folding{queries, lanes, folds, statistic, blocks, j0, j1, m, end};
        folding.probabilities(shared);
        folding.groups(candidates_BN, g_BHRM, part == 0 && j0 == m * key_block);
      }
    }
  }
}

struct Rows {
  const std::uint8_t* dense_heads_H;  // may be null
  float *teacher_BHRM, *weight_BHR;
  float *entropy_BHR, *largest_BHR;  // may be null
};

// -sum_j p log p = log total - sum_j p (s - top), over the log of the number of keys. In f64, as it
// is the difference of larger numbers.
__device__ double normalised_entropy(const Softmax& softmax, std::int64_t keys) {
  if (keys <= 1) return 0.0;
  const double total = static_cast<double>(softmax.total);
  return (log(total) - static_cast<double>(softmax.moment) / total) /
         log(static_cast<double>(keys));
}

// A warp for each row of the teacher.
template <class T>
__global__ void __launch_bounds__(kProductThreads)
    teacher_kernel(Problem<T> problem, const DeviceCandidates* candidates_BN, Rows rows) {
  const GridView& grid = problem.grid;
  const int lane = threadIdx.x % kWarp;
  const std::int64_t row =
      (static_cast<std::int64_t>(blockIdx.x) * kProductThreads + threadIdx.x) / kWarp;
  if (row >= grid.batch * grid.heads * problem.R) return;
  const std::int64_t b = row / problem.R / grid.heads, h = row / problem.R % grid.heads;
  const std::int64_t n = problem.groups_R[row % problem.R], M = grid.key_blocks();
  const DeviceCandidates candidates = candidates_BN[b * grid.groups() + n];
  float* const g = rows.teacher_BHRM + row * M;
  float sum = 0.0f;
  for (std::int64_t m = candidates.begin + lane; m < candidates.end; m += kWarp) sum += g[m];
  sum = warp_sum(sum);
  for (std::int64_t m = lane; m < M; m += kWarp)
    g[m] = candidates.contains(m) && sum > 0.0f ? g[m] / sum : 0.0f;
  const bool is_dense = rows.dense_heads_H != nullptr && rows.dense_heads_H[h] != 0;
  double entropy = 0.0;
  float largest = -INFINITY;
  const std::int64_t first = grid.first_query(n), end = grid.end_position(n);
  for (std::int64_t p = first + lane; p < end; p += kWarp) {
    const Softmax& softmax = problem.softmax_Q[row * grid.query_block + p - grid.first_position(n)];
    entropy += normalised_entropy(softmax, visible_key_range(grid, b, p).size());
    largest = fmaxf(largest, softmax.top);
  }
  entropy = warp_sum(entropy);
  largest = warp_max(largest);
  if (lane != 0) return;
  rows.weight_BHR[row] = candidates.size() >= 2 && sum > 0.0f && !is_dense ? 1.0f : 0.0f;
  if (rows.entropy_BHR != nullptr)
    rows.entropy_BHR[row] = static_cast<float>(entropy / static_cast<double>(end - first));
  if (rows.largest_BHR != nullptr) rows.largest_BHR[row] = largest;
}

template <class T>
void teach(const BlockMassTeacher::Arguments& a, ExecutionContext& context) {
  const GridView grid = a.grid.view();
  const std::int64_t R = a.groups_R.numel(), query_block = grid.query_block;
  const std::int64_t rows = grid.batch * grid.heads * R;
  const auto heads = static_cast<unsigned>(grid.heads), batch = static_cast<unsigned>(grid.batch);
  const Tensor softmax = context.empty({rows * query_block, 3}, DType::f32);
  const Problem<T> problem{.grid = grid,
                           .q_THK = device_data<T>(a.q_THK),
                           .k_TGK = device_data<T>(a.k_TGK),
                           .groups_R = device_data<std::int32_t>(a.groups_R),
                           .R = R,
                           .K = a.q_THK.dim(1) / grid.heads,
                           .kv_heads = a.kv_heads,
                           .groups_per_tile = std::max<std::int64_t>(1, kTile / query_block),
                           .parts = (query_block + kTile - 1) / kTile,
                           .scale = static_cast<float>(a.scale),
                           .softmax_Q = static_cast<Softmax*>(softmax.raw())};
  const CandidateTable candidates(grid, context);
  const unsigned tiles = blocks_for(R, problem.groups_per_tile);
  launch(context,
         {dim3(tiles * static_cast<unsigned>(problem.parts), heads, batch), kProductThreads},
         softmax_kernel<T>, problem);
  launch(
      context,
      {dim3(tiles * blocks_for(grid.key_blocks(), kBlocksPerTask), heads, batch), kProductThreads},
      mass_kernel<T>, problem, candidates.data(), a.statistic, device_data<float>(a.teacher_BHRM));
  launch(context, {blocks_for(rows, kProductThreads / kWarp), kProductThreads}, teacher_kernel<T>,
         problem, candidates.data(),
         Rows{device_data<std::uint8_t>(a.dense_heads_H), device_data<float>(a.teacher_BHRM),
              device_data<float>(a.weight_BHR), device_data<float>(a.entropy_BHR),
              device_data<float>(a.largest_BHR)});
}

// A thread has a query of a sequence. Sums of integers are the same in any order.
__global__ void __launch_bounds__(256)
    group_pairs_kernel(GridView grid, const std::int32_t* groups_R, std::int64_t R,
                       unsigned long long* pairs) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  std::int64_t visible = 0;
  if (i < grid.batch * R * grid.query_block) {
    const std::int64_t n = groups_R[i / grid.query_block % R], b = i / grid.query_block / R;
    const std::int64_t p = grid.first_position(n) + i % grid.query_block;
    if (p >= grid.first_query(n) && p < grid.end_position(n))
      visible = visible_key_range(grid, b, p).size();
  }
  visible = warp_sum(visible);
  if (threadIdx.x % kWarp != 0) return;
  atomicAdd(pairs, static_cast<unsigned long long>(visible));
  atomicAdd(pairs + 1, static_cast<unsigned long long>(visible));
}

}  // namespace

void CountGroupPairs::cuda(const Arguments& a, ExecutionContext& context) {
  const GridView grid = a.grid.view();
  const std::int64_t R = a.groups_R.numel(), rows = grid.batch * R * grid.query_block;
  context.zero(a.pairs);
  launch(context, {blocks_for(rows, 256), 256}, group_pairs_kernel, grid,
         device_data<std::int32_t>(a.groups_R), R, device_data<unsigned long long>(a.pairs));
}

void BlockMassTeacher::cuda(const Arguments& a, ExecutionContext& context) {
  visit_device(a.q_THK.dtype(), [&](auto type) { teach<decltype(type)>(a, context); });
}

}  // namespace filigree
