// dk and dv by tiles of keys: each block of threads owns the key rows of one tile of one block of
// one key/value head, and walks the queries that read it, head after head of the group, through the
// transposed lists. Logits are transposed: keys are rows, queries columns.
//
// Shared memory (k and v, and q and do twice): bf16 54 KiB at width 64, 67 KiB at 128; f32 76 KiB
// at most. Registers: attention_cuda_budgets.txt.
#include "kernels/attention/attention_backward_cuda.hpp"

namespace filigree {
namespace {

using tile::Exponential;

template <class T, int kWidth, int kWarps>
struct KeyShared {
  static constexpr int kColumns = kBackwardColumns<T, kWidth, kWarps>;
  tile::SharedTile<T, 16 * kWarps, kWidth> k, v;
  tile::SharedTile<T, kColumns, kWidth> q[2], d_o[2];
  int query[3][kColumns];
  int is_chosen[3][kColumns];
  int position[3][kColumns], reach_begin[3][kColumns], reach_end[3][kColumns];
  float bias[3][kColumns], lse[3][kColumns], delta[3][kColumns];
  tile::LeftOperand<T, kColumns> left[kWarps];
};

// The queries of all heads of a group, in tiles of one head each.
struct HeadWalk {
  Walk walk;
  int head, end;
};

template <class T, class Shared>
__device__ ColumnTile describe_columns(const BackwardParameters<T>& a, int b, Range keys,
                                       HeadWalk& heads, Shared& shared, int at) {
  const DevicePattern& p = a.pattern;
  const int column = static_cast<int>(threadIdx.x);
  ColumnTile tile = heads.walk.take<Shared::kColumns>(column);
  while (tile.filled == 0 && heads.head + 1 < heads.end) {
    heads.walk = queries_of(p, b, ++heads.head, keys);
    tile = heads.walk.take<Shared::kColumns>(column);
  }
  if (column >= Shared::kColumns) return tile;
  const int query = tile.item, h = heads.head;
  shared.query[at][column] = query;
  shared.is_chosen[at][column] = tile.slot != kPart;
  const QueryReach reach = query >= 0 ? reach_of(p, b, query) : QueryReach{0, 0, 0};
  shared.position[at][column] = reach.position;
  shared.reach_begin[at][column] = reach.begin;
  shared.reach_end[at][column] = reach.end;
  shared.lse[at][column] = weight_shift(p, a.lse, b, h, query);
  shared.delta[at][column] = query >= 0 ? a.delta[p.row(b, h, query)] : 0.0f;
  float bias = 0.0f;
  if (p.bias != nullptr && tile.slot >= 0) {
    const std::int64_t list = p.list(b, h, p.group_of(query));
    bias = p.bias[list * p.slots + slot_of(p, list, keys.begin / p.key_block)];
  }
  shared.bias[at][column] = bias;
  return tile;
}

template <class T, int kWidth, int kWarps>
__global__ void __launch_bounds__(32 * kWarps, 1)
    attention_backward_keys_kernel(const BackwardParameters<T> a) {
  using Shared = KeyShared<T, kWidth, kWarps>;
  static_assert(sizeof(Shared) <= 76 * 1024);
  constexpr int kColumns = Shared::kColumns;
  constexpr float kUnit = Exponential<T>::kUnit;
  Shared& shared = *reinterpret_cast<Shared*>(tile::dynamic_shared());
  const DevicePattern& p = a.pattern;
  const int b = static_cast<int>(blockIdx.z), g = static_cast<int>(blockIdx.y);
  const Range keys =
      rows_of_tile(static_cast<int>(blockIdx.x), 16 * kWarps, p.key_block, 0, p.key_length);
  if (keys.empty()) return;
  const int group = p.query_heads / p.kv_heads;
  const std::int64_t query_token = static_cast<std::int64_t>(b) * p.query_length;
  const std::int64_t key_token = static_cast<std::int64_t>(b) * p.key_length;

  HeadWalk heads{queries_of(p, b, g * group, keys), g * group, (g + 1) * group};
  ColumnTile current = describe_columns(a, b, keys, heads, shared, 0);
  const auto start = [&](int stage, int at, int h) {
    const auto query_of = [&](int r) { return shared.query[at][r]; };
    tile::start_rows(shared.q[stage], a.q.head(query_token, h), query_of);
    tile::start_rows(shared.d_o[stage], a.d_o.head(query_token, h), query_of);
    tile::cp_async_commit();
  };
  const auto key_of = [&](int r) { return keys.begin + r < keys.end ? keys.begin + r : -1; };
  tile::start_rows(shared.k, a.k.head(key_token, g), key_of);
  tile::start_rows(shared.v, a.v.head(key_token, g), key_of);
  __syncthreads();
  start(0, 0, heads.head);

  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int key[2] = {key_of(16 * warp + lane / 4), key_of(16 * warp + lane / 4 + 8)};
  float dk[kWidth / 8][4], dv[kWidth / 8][4];
  tile::clear(dk);
  tile::clear(dv);
  for (int n = 0; current.filled > 0; ++n) {
    const int stage = n % 2, at = n % 3;
    const ColumnTile next = describe_columns(a, b, keys, heads, shared, (n + 1) % 3);
    tile::cp_async_wait<0>();
    __syncthreads();
    if (next.filled > 0) start(1 - stage, (n + 1) % 3, heads.head);

    float s[kColumns / 8][4], dp[kColumns / 8][4];
    tile::clear(s);
    tile::clear(dp);
    tile::multiply_transposed(s, shared.k, 16 * warp, shared.q[stage]);
    tile::multiply_transposed(dp, shared.v, 16 * warp, shared.d_o[stage]);
    const bool is_masked = current.filled < kColumns || !current.all_chosen ||
                           reach_of(p, b, current.last).begin > keys.begin ||
                           reach_of(p, b, current.first).end < keys.end;
    for_each_sum(s, [&](int i, int column, int j, int e, float& weight) {
      float logit = weight * p.scale * kUnit;
      if (p.bias != nullptr) logit += shared.bias[at][column] * kUnit;
      weight = Exponential<T>::of(logit - shared.lse[at][column] * kUnit);
      if (is_masked &&
          !reads(p,
                 QueryReach{shared.position[at][column], shared.reach_begin[at][column],
                            shared.reach_end[at][column]},
                 key[i], shared.is_chosen[at][column] != 0))
        weight = 0.0f;
      dp[j][e] = weight * (dp[j][e] - shared.delta[at][column]);
    });
    tile::multiply<kColumns, kWidth>(dv, s, shared.d_o[stage], shared.left[warp]);
    tile::multiply<kColumns, kWidth>(dk, dp, shared.q[stage], shared.left[warp]);
    current = next;
  }

  tile::cp_async_wait<0>();
  const auto row_of = [&](int i) { return key[i]; };
  const float dk_factor[2] = {p.scale, p.scale}, dv_factor[2] = {1.0f, 1.0f};
  tile::store_rows(a.dk.head(key_token, g), dk, dk_factor, row_of);
  tile::store_rows(a.dv.head(key_token, g), dv, dv_factor, row_of);
}

template <class T, int kWidth, int kWarps>
void backward_keys(const AttentionShape& s, const BackwardParameters<T>& parameters,
                   const ExecutionContext& context) {
  const DevicePattern& p = parameters.pattern;
  const dim3 grid(
      static_cast<unsigned>(key_blocks(s, p.key_block)) * blocks_for(p.key_block, 16 * kWarps),
      static_cast<unsigned>(s.kv_heads), static_cast<unsigned>(s.batch));
  launch_tiles(context, {grid, 32 * kWarps, sizeof(KeyShared<T, kWidth, kWarps>)},
               attention_backward_keys_kernel<T, kWidth, kWarps>, parameters);
}

template <class T>
void backward_of_type(const AttentionBackward::Arguments& a,
                      const BackwardParameters<T>& parameters, const ExecutionContext& context) {
  visit_width(a.shape.head_dim, [&](auto width) {
    visit_warps<kManyWarps<T, width()>>(parameters.pattern.key_block, [&](auto warps) {
      backward_keys<T, width(), warps()>(a.shape, parameters, context);
    });
  });
}

}  // namespace

void attention_backward_keys(const AttentionBackward::Arguments& a,
                             const BackwardParameters<float>& parameters,
                             const ExecutionContext& context) {
  backward_of_type(a, parameters, context);
}

void attention_backward_keys(const AttentionBackward::Arguments& a,
                             const BackwardParameters<DeviceBFloat16>& parameters,
                             const ExecutionContext& context) {
  backward_of_type(a, parameters, context);
}

}  // namespace filigree
