// Backward for compute capability 9.0 in two kernels without atomics, every sum in one order: dk
// and dv by tiles of keys through the transposed lists, dq and dbias by tiles of queries. Both are
// one loop. A block owns a pair of tiles of 64 or 128 rows, (k, v) or (q, do), and a warp brings
// the pairs that visit it, 64 columns (q, do) or (k, v), by TMA. With w the weights of softmax, a
// row for each own row, each warpgroup multiplies
//   w  = exp(own[0] visiting[0]^T - lse)             dw = own[1] visiting[1]^T
//   first += w (dw - delta) visiting[0]              second += w visiting[1], for keys only
// in registers: the weights and their gradients are the left operands as they are. The first
// product of the next tile runs beside the last one of this, and two warpgroups fill the matrix
// unit for each other while they compute exponentials.
//
// Two stages of visiting pairs at width 128, four at 64:
//   own rows            128                 64: two blocks on a multiprocessor
//   shared memory       132 KiB             99 KiB
//   registers           40 + 2 x 232        40 + 216 of a thread of producer and consumers
// but one block, and 40 + 232 registers, for 64 keys at width 128.
// Registers of ptxas: attention_cuda_budgets.txt.
#include <algorithm>

#include "kernels/attention/attention_backward_cuda.hpp"
#include "kernels/attention/attention_hopper_cuda.hpp"

namespace filigree {
// Not anonymous: nvcc would warn of functions that are unused for architectures without a body.
namespace backward_hopper {

using tile::Exponential;
using tile::kWarpgroup;

constexpr int kColumns = 64;  // that visit at a time
constexpr int kPieces = kColumns / kSmallestPiece;
constexpr float kUnit = Exponential<DeviceBFloat16>::kUnit;

struct BackwardHopperParameters {
  CUtensorMap own[2], visiting[2];
  DevicePattern pattern;
  const float *lse, *delta;
  HeadTensor<DeviceBFloat16> gradient[2];  // of own
  int piece_bits;                          // a visiting piece has 1 << piece_bits rows
  float* dbias;                            // parts, or null
  std::int64_t dbias_stride;
};

// Where the rows of a piece are.
struct Place {
  int begin, head;
};

// Queries that visit keys. Those that there are not have an infinite shift.
struct VisitingQueries {
  int pieces;      // 0: no more tiles
  bool is_masked;  // some key is not read by some query
  bool chosen[kColumns];
  QueryReach reach[kColumns];
  // A weight is the exponential of scale <q, k> - shift, in units of the exponential.
  float shift[kColumns], delta[kColumns];
};

template <class Side, int kWidth, int kGroups>
struct BackwardShared {
  static constexpr int kRows = kGroupRows * kGroups;
  static constexpr int kStages = kWidth == 128 ? 2 : 4;
  using Columns = tile::SwizzledTile<kColumns, kWidth>;

  tile::SwizzledTile<kRows, kWidth> own[2];
  Columns visiting[kStages][2];
  typename Side::Visiting tiles[kStages];
  float piece_sums[kGroups][2][4][kPieces];  // of a tile, even and odd ones, by warp
  tile::Barrier own_full, full[kStages], empty[kStages];
};

// Side of queries -------------------------------------------------------------------------------

// Deals out the keys that a tile of queries reads.
class KeySource {
 public:
  __device__ KeySource(const BackwardHopperParameters& a, const OwnTile& own)
      : walk_(keys_of(a.pattern, own.b, own.head, own.rows)),
        list_(a.pattern.list(own.b, own.head, a.pattern.group_of(own.rows.begin))),
        head_(own.head / (a.pattern.query_heads / a.pattern.kv_heads)) {}

  // Writes down the next tile. Returns the place of this lane's piece; all lanes take part.
  __device__ Place describe(const BackwardHopperParameters& a, KeyTile<kPieces>& tile) {
    return {describe_pieces(a.pattern, a.piece_bits, walk_, list_, tile, kColumns).begin, head_};
  }

 private:
  Walk walk_;
  std::int64_t list_;
  int head_;
};

// The rows of a lane, where queries are rows.
class QuerySide {
 public:
  using Visiting = KeyTile<kPieces>;
  using Source = KeySource;
  static constexpr bool kHasSecond = false;

  // Under causality the last tiles read most: they come first.
  static __device__ OwnTile own(const DevicePattern& p, int rows) {
    return {static_cast<int>(blockIdx.z), static_cast<int>(blockIdx.y),
            rows_of_tile(static_cast<int>(gridDim.x - 1 - blockIdx.x), rows, p.query_block,
                         p.origin, p.query_length)};
  }
  static __device__ std::int64_t token(const DevicePattern& p, int b) {
    return static_cast<std::int64_t>(b) * p.query_length;
  }

  __device__ QuerySide(const BackwardHopperParameters& a, const OwnTile& own, int row0, int group)
      : rows_(a.pattern, own.b, own.rows, row0), common_{0, 0} {
    const DevicePattern& p = a.pattern;
    const Range queries = queries_of_group(own, group);
    if (!queries.empty()) common_ = read_by_all(p, own.b, queries);
    for (int i = 0; i < 2; ++i) {
      const int query = rows_.query[i];
      shift_[i] = kUnit * weight_shift(p, a.lse, own.b, own.head, query);
      delta_[i] = query >= 0 ? a.delta[p.row(own.b, own.head, query)] : 0.0f;
    }
    if (a.dbias == nullptr || queries.empty()) return;  // what has no queries has no part
    const int per_group = (p.query_block + kGroupRows - 1) / kGroupRows;
    const int first = own.rows.begin + kGroupRows * group + p.origin;
    dbias_ = a.dbias + first % p.query_block / kGroupRows % per_group * a.dbias_stride +
             p.list(own.b, own.head, p.group_of(own.rows.begin)) * p.slots;
  }

  __device__ int row(int i) const { return rows_.query[i]; }

  // Products become weights.
  __device__ __forceinline__ void weigh(const BackwardHopperParameters& a, const Visiting& tile,
                                        float (&s)[kColumns / 8][4]) const {
    mask(a.pattern, a.piece_bits, tile, rows_, common_, s);
    for_each_sum(s, [&](int i, int, int, int, float& logit) {
      logit = Exponential<DeviceBFloat16>::of(logit - shift_[i]);
    });
  }
  __device__ __forceinline__ float delta(const Visiting&, int i, int) const { return delta_[i]; }

  // Adds ds of a tile to the slots of its pieces, by one warpgroup. The pieces of a slot lie side
  // by side: the first one's thread adds them up. Sums of even and odd tiles lie apart, so that
  // one barrier is enough.
  __device__ __forceinline__ void add_bias_gradient(const BackwardHopperParameters& a,
                                                    const Visiting& tile, int group, int warp,
                                                    const float (&ds)[kColumns / 8][4],
                                                    float (&sums)[4][kPieces]) const {
    if (dbias_ == nullptr) return;
    const int mine = static_cast<int>(threadIdx.x) % kWarpgroup;
    float sum = 0.0f;
#pragma unroll
    for (int j = 0; j < kColumns / 8; ++j) {
      sum += ds[j][0] + ds[j][1] + (ds[j][2] + ds[j][3]);
      if (((8 * j + 8) & ((1 << a.piece_bits) - 1)) != 0) continue;
      sum = warp_sum(sum);
      if (mine % kWarp == 0) sums[warp][8 * j >> a.piece_bits] = sum;
      sum = 0.0f;
    }
    tile::named_barrier_sync(1 + group, kWarpgroup);
    if (mine >= tile.pieces) return;
    const int slot = tile.slot[mine];
    if (slot < 0 || (mine > 0 && tile.slot[mine - 1] == slot)) return;
    for (int piece = mine; piece < tile.pieces && tile.slot[piece] == slot; ++piece)
      for (int w = 0; w < 4; ++w) sum += sums[w][piece];
    dbias_[slot] += sum;
  }

 private:
  LaneQueries rows_;
  Range common_;
  float shift_[2], delta_[2];
  float* dbias_ = nullptr;  // of this warpgroup's part and list
};

// Side of keys ----------------------------------------------------------------------------------

// Deals out the queries that read a tile of keys, head after head of the group.
class QuerySource {
 public:
  __device__ QuerySource(const BackwardHopperParameters& a, const OwnTile& own)
      : own_(own),
        head_(own.head * (a.pattern.query_heads / a.pattern.kv_heads)),
        last_(head_ + a.pattern.query_heads / a.pattern.kv_heads - 1),
        walk_(queries_of(a.pattern, own.b, head_, own.rows)) {}

  // As of KeySource.
  __device__ Place describe(const BackwardHopperParameters& a, VisitingQueries& tile) {
    const DevicePattern& p = a.pattern;
    const int lane = static_cast<int>(threadIdx.x) % kWarp, wanted = kColumns >> a.piece_bits;
    Piece piece{p.query_length, kPart}, next{0, kPart};
    int head = own_.head, filled = 0;
    for (; filled < wanted && next_piece(p, 1 << a.piece_bits, next); ++filled)
      if (filled == lane) piece = next, head = head_;
    float bias = 0.0f;
    if (p.bias != nullptr && piece.slot >= 0) {
      const std::int64_t list = p.list(own_.b, head, p.group_of(piece.begin));
      bias = p.bias[list * p.slots + slot_of(p, list, own_.rows.begin / p.key_block)];
    }
    bool is_masked = false;
    for (int column = lane; column < kColumns; column += kWarp) {
      const int from = column >> a.piece_bits;
      const Piece of_column{__shfl_sync(kWholeWarp, piece.begin, from),
                            __shfl_sync(kWholeWarp, piece.slot, from)};
      is_masked |= describe_column(a, of_column, __shfl_sync(kWholeWarp, head, from),
                                   __shfl_sync(kWholeWarp, bias, from), column, tile);
    }
    is_masked = __any_sync(kWholeWarp, is_masked) != 0;
    if (lane == 0) tile.pieces = filled, tile.is_masked = is_masked;
    return {piece.begin, head};
  }

 private:
  __device__ bool next_piece(const DevicePattern& p, int rows, Piece& piece) {
    while (!walk_.next_piece(rows, piece)) {
      if (head_ == last_) return false;
      walk_ = queries_of(p, own_.b, ++head_, own_.rows);
    }
    return true;
  }

  // Returns whether the query does not read all keys.
  __device__ bool describe_column(const BackwardHopperParameters& a, const Piece& piece, int head,
                                  float bias, int column, VisitingQueries& tile) const {
    const DevicePattern& p = a.pattern;
    int query = piece.begin + (column & ((1 << a.piece_bits) - 1));
    const bool exists =
        query >= 0 && query < p.query_length && p.group_of(query) == p.group_of(piece.begin);
    if (!exists) query = -1;
    const QueryReach reach = exists ? reach_of(p, own_.b, query) : QueryReach{0, 0, 0};
    tile.reach[column] = reach;
    tile.chosen[column] = piece.slot != kPart;
    tile.shift[column] = (weight_shift(p, a.lse, own_.b, head, query) - bias) * kUnit;
    tile.delta[column] = exists ? a.delta[p.row(own_.b, head, query)] : 0.0f;
    return piece.slot == kPart || reach.begin > own_.rows.begin || reach.end < own_.rows.end;
  }

  OwnTile own_;
  int head_, last_;
  Walk walk_;
};

// The rows of a lane, where keys are rows.
class KeySide {
 public:
  using Visiting = VisitingQueries;
  using Source = QuerySource;
  static constexpr bool kHasSecond = true;

  // Under causality the first tiles are read most: they come first.
  static __device__ OwnTile own(const DevicePattern& p, int rows) {
    return {static_cast<int>(blockIdx.z), static_cast<int>(blockIdx.y),
            rows_of_tile(static_cast<int>(blockIdx.x), rows, p.key_block, 0, p.key_length)};
  }
  static __device__ std::int64_t token(const DevicePattern& p, int b) {
    return static_cast<std::int64_t>(b) * p.key_length;
  }

  __device__ KeySide(const BackwardHopperParameters&, const OwnTile& own, int row0, int) {
    for (int i = 0; i < 2; ++i) {
      const int key = own.rows.begin + row0 + static_cast<int>(threadIdx.x) % kWarp / 4 + 8 * i;
      key_[i] = key < own.rows.end ? key : -1;
    }
  }

  __device__ int row(int i) const { return key_[i]; }

  __device__ __forceinline__ void weigh(const BackwardHopperParameters& a, const Visiting& tile,
                                        float (&s)[kColumns / 8][4]) const {
    const DevicePattern& p = a.pattern;
    for_each_sum(s, [&](int, int column, int, int, float& value) {
      value = Exponential<DeviceBFloat16>::of(value * (p.scale * kUnit) - tile.shift[column]);
    });
    if (!tile.is_masked) return;
    for_each_sum(s, [&](int i, int column, int, int, float& value) {
      if (!reads(p, tile.reach[column], key_[i], tile.chosen[column])) value = 0.0f;
    });
  }
  __device__ __forceinline__ float delta(const Visiting& tile, int, int column) const {
    return tile.delta[column];
  }

  __device__ __forceinline__ void add_bias_gradient(const BackwardHopperParameters&,
                                                    const Visiting&, int, int,
                                                    const float (&)[kColumns / 8][4],
                                                    float (&)[4][kPieces]) const {}

 private:
  int key_[2];
};

// Both sides ------------------------------------------------------------------------------------

template <class Side, int kWidth, int kGroups>
__device__ void produce(const BackwardHopperParameters& a,
                        BackwardShared<Side, kWidth, kGroups>& shared, const OwnTile& own) {
  using Shared = BackwardShared<Side, kWidth, kGroups>;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  if (lane == 0) {
    tile::arrive_and_expect(shared.own_full, sizeof(shared.own));
    for (int i = 0; i < 2; ++i) start_own_rows(a.own[i], shared.own[i], shared.own_full, own);
  }
  typename Side::Source source(a, own);
  for (int n = 0;; ++n) {
    const int stage = n % Shared::kStages;
    tile::wait(shared.empty[stage], n / Shared::kStages % 2 ^ 1);
    const Place place = source.describe(a, shared.tiles[stage]);
    __syncwarp();
    if (shared.tiles[stage].pieces == 0) {
      if (lane == 0) tile::arrive(shared.full[stage]);
      return;
    }
    announce(shared.full[stage], 2 * Shared::Columns::kBytes);
    for (int i = 0; i < 2; ++i)
      start_pieces(a.visiting[i], a.piece_bits, shared.visiting[stage][i], shared.full[stage],
                   place.begin, place.head, own.b);
  }
}

template <class Side, int kWidth, int kGroups>
__device__ __forceinline__ void consume(const BackwardHopperParameters& a,
                                        BackwardShared<Side, kWidth, kGroups>& shared,
                                        const OwnTile& own, int group) {
  constexpr int kStages = BackwardShared<Side, kWidth, kGroups>::kStages;
  const int warp = static_cast<int>(threadIdx.x) % kWarpgroup / kWarp, row0 = kGroupRows * group;
  const Side side(a, own, row0 + 16 * warp, group);

  float w[kColumns / 8][4], dw[kColumns / 8][4], first[kWidth / 8][4], second[kWidth / 8][4];
  tile::PackedSums<kColumns> weights, gradients;
  tile::clear(w);
  tile::clear(dw);
  tile::clear(first);
  tile::clear(second);
  const auto start_weights = [&](int stage) {
    tile::wgmma_fence();
    tile::start_multiply_transposed(w, shared.own[0], row0, shared.visiting[stage][0]);
    tile::wgmma_commit();
  };
  // Starts the second product of a tile whose first one is under way, which meanwhile turns into
  // weights. Nothing is in flight at the end: the compiler moves registers where loops begin.
  const auto weigh = [&](int stage) {
    tile::wgmma_fence();
    tile::start_multiply_transposed(dw, shared.own[1], row0, shared.visiting[stage][1]);
    tile::wgmma_commit();
    tile::wgmma_wait<1>(w);
    side.weigh(a, shared.tiles[stage], w);
    tile::wgmma_wait<0>(dw);
  };
  tile::wait(shared.own_full, 0);
  tile::wait(shared.full[0], 0);
  if (shared.tiles[0].pieces > 0) {
    start_weights(0);
    weigh(0);
    for (int n = 0;; ++n) {
      const int stage = n % kStages, next = n + 1, next_stage = next % kStages;
      const auto& tile = shared.tiles[stage];
      for_each_sum(dw, [&](int i, int column, int j, int e, float& value) {
        value = w[j][e] * (value - side.delta(tile, i, column));
      });
      side.add_bias_gradient(a, tile, group, warp, dw, shared.piece_sums[group][n % 2]);
      gradients.pack(dw);
      if constexpr (Side::kHasSecond) weights.pack(w);
      tile::wgmma_fence();
      if constexpr (Side::kHasSecond)
        tile::start_multiply(second, weights, shared.visiting[stage][1]);
      tile::start_multiply(first, gradients, shared.visiting[stage][0]);
      tile::wgmma_commit();
      tile::wait(shared.full[next_stage], next / kStages % 2);
      if (shared.tiles[next_stage].pieces == 0) break;
      start_weights(next_stage);
      tile::wgmma_wait<1>(first, second);
      if (threadIdx.x % kWarp == 0) tile::arrive(shared.empty[stage]);
      weigh(next_stage);
    }
    tile::wgmma_wait<0>(first, second);
  }

  const std::int64_t token = Side::token(a.pattern, own.b);
  const auto row_of = [&](int i) { return side.row(i); };
  const float scale[2] = {a.pattern.scale, a.pattern.scale}, one[2] = {1.0f, 1.0f};
  tile::store_rows(a.gradient[0].head(token, own.head), first, scale, row_of);
  if constexpr (Side::kHasSecond)
    tile::store_rows(a.gradient[1].head(token, own.head), second, one, row_of);
}

// Blocks that share a multiprocessor. Two have too few registers for dk and dv of heads of 128.
template <class Side, int kWidth, int kGroups>
constexpr int kBlocks = kGroups == 2 || (Side::kHasSecond && kWidth == 128) ? 1 : 2;

// Warpgroup 0 produces, the others consume. The bound on threads says how many registers the block
// has to deal out: those of three warpgroups where it is alone.
template <class Side, int kWidth, int kGroups>
__global__ void __launch_bounds__((kBlocks<Side, kWidth, kGroups> == 1 ? 3 : 2) * kWarpgroup,
                                  kBlocks<Side, kWidth, kGroups>)
    attention_backward_hopper_kernel(const __grid_constant__ BackwardHopperParameters a) {
  if constexpr (tile::kHasHopperInstructions) {
    using Shared = BackwardShared<Side, kWidth, kGroups>;
    static_assert(sizeof(Shared) <= (kGroups == 1 ? 99 : 132) * 1024);
    Shared& shared = *reinterpret_cast<Shared*>(tile::dynamic_shared());
    const OwnTile own = Side::own(a.pattern, Shared::kRows);
    if (own.rows.empty()) return;
    if (threadIdx.x == 0) {
      tile::init(shared.own_full, 1);
      for (int s = 0; s < Shared::kStages; ++s) {
        tile::init(shared.full[s], 1);
        tile::init(shared.empty[s], 4 * kGroups);  // one arrival of each warp
      }
      tile::fence_mbarrier_init();
    }
    __syncthreads();
    const int warpgroup = warpgroup_of_thread();
    if (warpgroup == 0) {
      tile::decrease_registers<kProducerRegisters>();
      if (threadIdx.x < kWarp) produce(a, shared, own);
    } else {
      tile::increase_registers<kConsumerRegisters<kBlocks<Side, kWidth, kGroups>>>();
      consume(a, shared, own, warpgroup - 1);
    }
  }
}

template <class Side>
void launch_side(const AttentionShape& s, std::int64_t rows, unsigned units, unsigned unit,
                 unsigned heads, const BackwardHopperParameters& parameters,
                 const ExecutionContext& context) {
  visit_warpgroups(s.head_dim, rows, [&](auto width, auto groups) {
    const dim3 grid(units * blocks_for(unit, kGroupRows * groups()), heads,
                    static_cast<unsigned>(s.batch));
    launch_tiles(
        context,
        {grid, (1 + groups()) * kWarpgroup, sizeof(BackwardShared<Side, width(), groups()>)},
        attention_backward_hopper_kernel<Side, width(), groups()>, parameters);
  });
}

void backward_queries(const AttentionBackward::Arguments& a,
                      const BackwardParameters<DeviceBFloat16>& x, ExecutionContext& context) {
  const AttentionShape& s = a.shape;
  const DevicePattern& p = x.pattern;
  const int bits = piece_bits(p.key_block), piece = 1 << bits;
  const Tensor parts = empty_bias_parts(a, blocks_for(p.query_block, kGroupRows), context);
  const BackwardHopperParameters parameters{
      {boxes_of_heads(a.q_THK, s.batch, s.query_heads, s.head_dim, kGroupRows),
       boxes_of_heads(a.do_THK, s.batch, s.query_heads, s.head_dim, kGroupRows)},
      {boxes_of_heads(a.k_TGK, s.batch, s.kv_heads, s.head_dim, piece),
       boxes_of_heads(a.v_TGK, s.batch, s.kv_heads, s.head_dim, piece)},
      p,
      x.lse,
      x.delta,
      {x.dq, {}},
      bits,
      device_data<float>(parts),
      parts.defined() ? a.dbias_BHNJ.numel() : 0};
  launch_side<QuerySide>(s, std::min<std::int64_t>(p.query_block, s.query_length), query_runs(s, p),
                         static_cast<unsigned>(p.query_block), static_cast<unsigned>(s.query_heads),
                         parameters, context);
  add_bias_parts(a, parts, context);
}

void backward_keys(const AttentionBackward::Arguments& a,
                   const BackwardParameters<DeviceBFloat16>& x, ExecutionContext& context) {
  const AttentionShape& s = a.shape;
  const DevicePattern& p = x.pattern;
  const int bits = piece_bits(p.query_block), piece = 1 << bits;
  const BackwardHopperParameters parameters{
      {boxes_of_heads(a.k_TGK, s.batch, s.kv_heads, s.head_dim, kGroupRows),
       boxes_of_heads(a.v_TGK, s.batch, s.kv_heads, s.head_dim, kGroupRows)},
      {boxes_of_heads(a.q_THK, s.batch, s.query_heads, s.head_dim, piece),
       boxes_of_heads(a.do_THK, s.batch, s.query_heads, s.head_dim, piece)},
      p,
      x.lse,
      x.delta,
      {x.dk, x.dv},
      bits,
      nullptr,
      0};
  launch_side<KeySide>(s, std::min<std::int64_t>(p.key_block, s.key_length),
                       static_cast<unsigned>(key_blocks(s, p.key_block)),
                       static_cast<unsigned>(p.key_block), static_cast<unsigned>(s.kv_heads),
                       parameters, context);
}

}  // namespace backward_hopper

std::optional<std::string> reject_attention_backward_hopper(const AttentionBackward::Arguments& a,
                                                            const ExecutionContext& context) {
  return reject_hopper(a.shape, a.pattern, {a.q_THK, a.k_TGK, a.v_TGK, a.do_THK}, context);
}

void attention_backward_hopper(const AttentionBackward::Arguments& a, ExecutionContext& context) {
  check_arguments(a);
  const Tensor delta = attention_delta(a, context);
  const DevicePattern pattern = hopper_pattern(a.shape, a.pattern);
  const auto parameters = backward_parameters<DeviceBFloat16>(a, pattern, delta);
  backward_hopper::backward_queries(a, parameters, context);
  // Blocks of few keys would leave most rows of a warpgroup idle.
  if (pattern.key_block <= kFewestRows)
    attention_backward_keys(a, parameters, context);
  else
    backward_hopper::backward_keys(a, parameters, context);
}

}  // namespace filigree
