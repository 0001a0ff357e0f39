// dq and dbias by tiles of queries: the walk of the forward, with do beside q.
//
// Shared memory (q and do, and k and v twice): bf16 52 KiB at width 64, 66 KiB at 128; f32 75 KiB
// at most. Registers: attention_cuda_budgets.txt.
#include <algorithm>

#include "kernels/attention/attention_backward_cuda.hpp"

namespace filigree {
namespace {

using tile::Exponential;

template <class T, int kWidth, int kWarps>
struct QueryShared {
  static constexpr int kColumns = kBackwardColumns<T, kWidth, kWarps>;
  tile::SharedTile<T, 16 * kWarps, kWidth> q, d_o;
  tile::SharedTile<T, kColumns, kWidth> k[2], v[2];
  int key[3][kColumns];
  int slot[3][kColumns];
  float bias[3][kColumns];
  float column_sums[kWarps][kColumns];
  tile::LeftOperand<T, kColumns> left[kWarps];
};

// Adds the columns of ds to the slots that they belong to. A slot's columns lie side by side: the
// first one's thread adds them up. dbias: of this list.
template <int kTiles, class Shared>
__device__ __forceinline__ void add_bias_gradient(const float (&ds)[kTiles][4], Shared& shared,
                                                  int at, float* dbias) {
  constexpr int kColumns = Shared::kColumns;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int warps = static_cast<int>(blockDim.x) / kWarp;
#pragma unroll
  for (int j = 0; j < kTiles; ++j)
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      float sum = ds[j][n] + ds[j][2 + n];
      for (int distance = 4; distance < kWarp; distance *= 2)
        sum += __shfl_xor_sync(kWholeWarp, sum, distance);
      if (lane < 4) shared.column_sums[warp][8 * j + 2 * lane + n] = sum;
    }
  __syncthreads();
  const int column = static_cast<int>(threadIdx.x);
  if (column < kColumns) {
    const int slot = shared.slot[at][column];
    if (slot >= 0 && (column == 0 || shared.slot[at][column - 1] != slot)) {
      float sum = 0.0f;
      for (int c = column; c < kColumns && shared.slot[at][c] == slot; ++c)
        for (int w = 0; w < warps; ++w) sum += shared.column_sums[w][c];
      dbias[slot] += sum;
    }
  }
  __syncthreads();
}

template <class T, int kWidth, int kWarps>
__global__ void __launch_bounds__(32 * kWarps, 1)
    attention_backward_queries_kernel(const BackwardParameters<T> a, float* dbias,
                                      std::int64_t dbias_stride) {
  using Shared = QueryShared<T, kWidth, kWarps>;
  static_assert(sizeof(Shared) <= 75 * 1024);
  constexpr int kColumns = Shared::kColumns;
  constexpr float kUnit = Exponential<T>::kUnit;
  Shared& shared = *reinterpret_cast<Shared*>(tile::dynamic_shared());
  const DevicePattern& p = a.pattern;
  const int b = static_cast<int>(blockIdx.z), h = static_cast<int>(blockIdx.y);
  const int tile_index = static_cast<int>(gridDim.x - 1 - blockIdx.x);
  const Range queries =
      rows_of_tile(tile_index, 16 * kWarps, p.query_block, p.origin, p.query_length);
  if (queries.empty()) return;
  const int g = h / (p.query_heads / p.kv_heads);
  const auto k = a.k.head(static_cast<std::int64_t>(b) * p.key_length, g);
  const auto v = a.v.head(static_cast<std::int64_t>(b) * p.key_length, g);
  const std::int64_t query_token = static_cast<std::int64_t>(b) * p.query_length;
  const std::int64_t list = p.list(b, h, p.group_of(queries.begin));
  if (dbias != nullptr) {
    const int per_group = (p.query_block + 16 * kWarps - 1) / (16 * kWarps);
    dbias += tile_index % per_group * dbias_stride + list * p.slots;
  }

  const auto start = [&](int stage, int at) {
    const auto key_of = [&](int r) { return shared.key[at][r]; };
    tile::start_rows(shared.k[stage], k, key_of);
    tile::start_rows(shared.v[stage], v, key_of);
    tile::cp_async_commit();
  };
  Walk walk = keys_of(p, b, h, queries);
  ColumnTile current = describe_keys(p, walk, list, shared, 0);
  const auto query_of = [&](int r) {
    return queries.begin + r < queries.end ? queries.begin + r : -1;
  };
  tile::start_rows(shared.q, a.q.head(query_token, h), query_of);
  tile::start_rows(shared.d_o, a.d_o.head(query_token, h), query_of);
  __syncthreads();
  start(0, 0);

  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const LaneQueries rows(p, b, queries, 16 * warp);
  const Range common = read_by_all(p, b, queries);
  float lse[2], delta[2];
  for (int i = 0; i < 2; ++i) {
    const int query = rows.query[i];
    lse[i] = kUnit * weight_shift(p, a.lse, b, h, query);
    delta[i] = query >= 0 ? a.delta[p.row(b, h, query)] : 0.0f;
  }

  float dq[kWidth / 8][4];
  tile::clear(dq);
  for (int n = 0; current.filled > 0; ++n) {
    const int stage = n % 2, at = n % 3;
    const ColumnTile next = describe_keys(p, walk, list, shared, (n + 1) % 3);
    tile::cp_async_wait<0>();
    __syncthreads();
    if (next.filled > 0) start(1 - stage, (n + 1) % 3);

    float s[kColumns / 8][4], dp[kColumns / 8][4];
    tile::clear(s);
    tile::clear(dp);
    tile::multiply_transposed(s, shared.q, 16 * warp, shared.k[stage]);
    tile::multiply_transposed(dp, shared.d_o, 16 * warp, shared.v[stage]);
    const bool is_masked = current.filled < kColumns || !current.all_chosen ||
                           current.first < common.begin || current.last >= common.end;
    for_each_sum(s, [&](int i, int column, int j, int e, float& value) {
      float logit = value * p.scale * kUnit;
      if (p.bias != nullptr) logit += shared.bias[at][column] * kUnit;
      float weight = Exponential<T>::of(logit - lse[i]);
      if (is_masked &&
          !reads(p, rows.reach[i], shared.key[at][column], shared.slot[at][column] != kPart))
        weight = 0.0f;
      value = weight * (dp[j][e] - delta[i]);
    });
    if (dbias != nullptr) add_bias_gradient(s, shared, at, dbias);
    tile::multiply<kColumns, kWidth>(dq, s, shared.k[stage], shared.left[warp]);
    current = next;
  }

  tile::cp_async_wait<0>();
  const float factor[2] = {p.scale, p.scale};
  tile::store_rows(a.dq.head(query_token, h), dq, factor, [&](int i) { return rows.query[i]; });
}

template <class T, int kWidth, int kWarps>
void backward_queries(const AttentionBackward::Arguments& a,
                      const BackwardParameters<T>& parameters, ExecutionContext& context) {
  const AttentionShape& s = a.shape;
  const DevicePattern& p = parameters.pattern;
  const unsigned per_group = blocks_for(p.query_block, 16 * kWarps);
  const Tensor parts = empty_bias_parts(a, per_group, context);
  const dim3 grid(query_runs(s, p) * per_group, static_cast<unsigned>(s.query_heads),
                  static_cast<unsigned>(s.batch));
  launch_tiles(context, {grid, 32 * kWarps, sizeof(QueryShared<T, kWidth, kWarps>)},
               attention_backward_queries_kernel<T, kWidth, kWarps>, parameters,
               device_data<float>(parts), a.dbias_BHNJ.defined() ? a.dbias_BHNJ.numel() : 0);
  add_bias_parts(a, parts, context);
}

template <class T>
void backward(const AttentionBackward::Arguments& a, ExecutionContext& context) {
  const AttentionShape& s = a.shape;
  const Tensor delta = attention_delta(a, context);
  const auto parameters = backward_parameters<T>(a, device_pattern(s, a.pattern), delta);
  visit_width(s.head_dim, [&](auto width) {
    const std::int64_t rows_together =
        std::min<std::int64_t>(parameters.pattern.query_block, s.query_length);
    visit_warps<kManyWarps<T, width()>>(rows_together, [&](auto warps) {
      backward_queries<T, width(), warps()>(a, parameters, context);
    });
  });
  attention_backward_keys(a, parameters, context);
}

}  // namespace

std::optional<std::string> AttentionBackward::reject(const Arguments& a, const ExecutionContext&) {
  return reject_attention_cuda(a.shape, a.q_THK);
}

void AttentionBackward::cuda(const Arguments& a, ExecutionContext& context) {
  check_arguments(a);
  visit_device(a.q_THK.dtype(), [&](auto type) { backward<decltype(type)>(a, context); });
}

}  // namespace filigree
