// Flash attention for compute capability 9.0, in the manner of FlashAttention-3 (Shah et al. 2024):
// a warp brings tiles of keys by TMA as the lists name them; one or two warpgroups of 64 query rows
// each multiply by wgmma. A warpgroup starts the scores of the next tile before the softmax of this
// one's is multiplied with the values, and two warpgroups take turns at the matrix unit, so that
// one computes exponentials while the other multiplies.
//
// Keys are copied in pieces of 8 to 64 rows, whatever divides a block of the lists, and a tile is
// filled up with the pieces that the walk names. Q, K and V of one tile, two tiles at width 128 and
// four at 64:
//   rows, columns       128 x 128           64 x 64 (groups of up to 64 queries)
//   shared memory       163 KiB, 147 KiB    83 KiB, 75 KiB at most: two blocks on a multiprocessor
//   registers           40 + 2 x 232        40 + 216 of a thread of producer and consumers
// Registers of ptxas: attention_cuda_budgets.txt.
#include <algorithm>

#include "kernels/attention/attention_hopper_cuda.hpp"

namespace filigree {
namespace {

using tile::Exponential;
using tile::kWarpgroup;

template <int kWidth, int kGroups>
struct HopperShared {
  static constexpr int kRows = kGroupRows * kGroups, kColumns = kRows;
  static constexpr int kStages = kWidth == 128 ? 2 : 4;
  // A description outlives its keys: it is read until the softmax of the next tile.
  static constexpr int kDescriptions = 2 * kStages;
  static constexpr int kPieces = kColumns / kSmallestPiece;
  using Keys = tile::SwizzledTile<kColumns, kWidth>;

  tile::SwizzledTile<kRows, kWidth> q;
  Keys k[kStages], v[kStages];
  KeyTile<kPieces> tiles[kDescriptions];
  tile::Barrier q_full, k_full[kStages], v_full[kStages], k_empty[kStages], v_empty[kStages];
};

struct HopperParameters {
  CUtensorMap q, k, v;
  DevicePattern pattern;
  HeadTensor<DeviceBFloat16> o;
  float* lse;
  int piece_bits;  // a piece has 1 << piece_bits keys
};

template <int kWidth, int kGroups>
__device__ void produce(const HopperParameters& a, HopperShared<kWidth, kGroups>& shared,
                        const OwnTile& own) {
  using Shared = HopperShared<kWidth, kGroups>;
  const DevicePattern& p = a.pattern;
  const int g = own.head / (p.query_heads / p.kv_heads),
            lane = static_cast<int>(threadIdx.x) % kWarp;
  if (lane == 0) {
    tile::arrive_and_expect(shared.q_full, decltype(shared.q)::kBytes);
    start_own_rows(a.q, shared.q, shared.q_full, own);
  }
  const std::int64_t list = p.list(own.b, own.head, p.group_of(own.rows.begin));
  Walk walk = keys_of(p, own.b, own.head, own.rows);
  for (int n = 0;; ++n) {
    const int stage = n % Shared::kStages, last_use = n / Shared::kStages % 2 ^ 1;
    auto& description = shared.tiles[n % Shared::kDescriptions];
    tile::wait(shared.k_empty[stage], last_use);
    const Piece piece = describe_pieces(p, a.piece_bits, walk, list, description, Shared::kColumns);
    __syncwarp();
    if (description.pieces == 0) {
      if (lane == 0) tile::arrive(shared.k_full[stage]);
      return;
    }
    announce(shared.k_full[stage], Shared::Keys::kBytes);
    start_pieces(a.k, a.piece_bits, shared.k[stage], shared.k_full[stage], piece.begin, g, own.b);
    tile::wait(shared.v_empty[stage], last_use);
    announce(shared.v_full[stage], Shared::Keys::kBytes);
    start_pieces(a.v, a.piece_bits, shared.v[stage], shared.v_full[stage], piece.begin, g, own.b);
  }
}

// Two warpgroups take turns at starting products; barrier 1 + group is the turn of a group.
template <int kGroups>
struct Turns {
  static constexpr int kThreads = kGroups * kWarpgroup;
  int group;

  __device__ void open() const {
    if (kGroups == 2 && group == 1) tile::named_barrier_arrive(1, kThreads);
  }
  __device__ void take() const {
    if (kGroups == 2) tile::named_barrier_sync(1 + group, kThreads);
  }
  __device__ void pass() const {
    if (kGroups == 2) tile::named_barrier_arrive(2 - group, kThreads);
  }
  __device__ void close() const {
    if (kGroups == 2 && group == 0) tile::named_barrier_sync(1, kThreads);
  }
};

template <int kWidth, int kGroups>
__device__ __forceinline__ void consume(const HopperParameters& a,
                                        HopperShared<kWidth, kGroups>& shared, const OwnTile& own,
                                        int group) {
  using Shared = HopperShared<kWidth, kGroups>;
  constexpr int kStages = Shared::kStages, kColumns = Shared::kColumns;
  const DevicePattern& p = a.pattern;
  const int warp = static_cast<int>(threadIdx.x) % kWarpgroup / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const LaneQueries rows(p, own.b, own.rows, kGroupRows * group + 16 * warp);
  const Range queries = queries_of_group(own, group);
  const Range common = queries.empty() ? Range{0, 0} : read_by_all(p, own.b, queries);
  const auto phase = [](int n) { return n / kStages % 2; };
  const auto release = [&](tile::Barrier& empty) {
    if (lane == 0) tile::arrive(empty);
  };
  const auto description = [&](int n) -> const auto& {
    return shared.tiles[n % Shared::kDescriptions];
  };
  const Turns<kGroups> turns{group};

  float s[kColumns / 8][4], o[kWidth / 8][4], rescale[2];
  tile::PackedSums<kColumns> weights;
  tile::RunningSoftmax<DeviceBFloat16> softmax;
  tile::clear(s);
  tile::clear(o);
  turns.open();
  tile::wait(shared.q_full, 0);
  tile::wait(shared.k_full[0], 0);
  if (description(0).pieces > 0) {
    tile::wgmma_fence();
    tile::start_multiply_transposed(s, shared.q, kGroupRows * group, shared.k[0]);
    tile::wgmma_commit();
    tile::wgmma_wait<0>(s);
    release(shared.k_empty[0]);
    mask(p, a.piece_bits, description(0), rows, common, s);
    softmax.add(s, rescale);
    weights.pack(s);
    int n = 0;
    for (;; ++n) {
      const int stage = n % kStages, next = n + 1, next_stage = next % kStages;
      tile::wait(shared.k_full[next_stage], phase(next));
      if (description(next).pieces == 0) break;
      turns.take();
      tile::wgmma_fence();
      tile::start_multiply_transposed(s, shared.q, kGroupRows * group, shared.k[next_stage]);
      tile::wgmma_commit();
      tile::wait(shared.v_full[stage], phase(n));
      tile::wgmma_fence();
      tile::start_multiply(o, weights, shared.v[stage]);
      tile::wgmma_commit();
      turns.pass();
      tile::wgmma_wait<1>(s);
      release(shared.k_empty[next_stage]);
      mask(p, a.piece_bits, description(next), rows, common, s);
      softmax.add(s, rescale);
      tile::wgmma_wait<0>(o);
      release(shared.v_empty[stage]);
      tile::scale_rows(o, rescale);
      weights.pack(s);
    }
    tile::wait(shared.v_full[n % kStages], phase(n));
    tile::wgmma_fence();
    tile::start_multiply(o, weights, shared.v[n % kStages]);
    tile::wgmma_commit();
    tile::wgmma_wait<0>(o);
  }
  turns.close();

  softmax.finish();
  float factor[2];
  for (int i = 0; i < 2; ++i) {
    factor[i] = softmax.sum[i] == 0.0f ? 0.0f : 1.0f / softmax.sum[i];
    if (lane % 4 == 0 && rows.query[i] >= 0)
      a.lse[p.row(own.b, own.head, rows.query[i])] = softmax.log_sum(i);
  }
  tile::store_rows(a.o.head(static_cast<std::int64_t>(own.b) * p.query_length, own.head), o, factor,
                   [&](int i) { return rows.query[i]; });
}

// Warpgroup 0 produces, the others consume.
template <int kWidth, int kGroups>
__global__ void __launch_bounds__((1 + kGroups) * kWarpgroup, kGroups == 1 ? 2 : 1)
    attention_forward_hopper_kernel(const __grid_constant__ HopperParameters a) {
  if constexpr (tile::kHasHopperInstructions) {
    using Shared = HopperShared<kWidth, kGroups>;
    static_assert(sizeof(Shared) <= (kGroups == 1 ? 83 : 163) * 1024);
    Shared& shared = *reinterpret_cast<Shared*>(tile::dynamic_shared());
    const DevicePattern& p = a.pattern;
    // Under causality the last tiles read most: they come first.
    const OwnTile own{static_cast<int>(blockIdx.z), static_cast<int>(blockIdx.y),
                      rows_of_tile(static_cast<int>(gridDim.x - 1 - blockIdx.x), Shared::kRows,
                                   p.query_block, p.origin, p.query_length)};
    if (own.rows.empty()) return;
    if (threadIdx.x == 0) {
      tile::init(shared.q_full, 1);
      for (int s = 0; s < Shared::kStages; ++s) {
        tile::init(shared.k_full[s], 1), tile::init(shared.v_full[s], 1);
        // One arrival of each warp.
        tile::init(shared.k_empty[s], 4 * kGroups), tile::init(shared.v_empty[s], 4 * kGroups);
      }
      tile::fence_mbarrier_init();
    }
    __syncthreads();
    const int warpgroup = warpgroup_of_thread();
    if (warpgroup == 0) {
      tile::decrease_registers<kProducerRegisters>();
      if (threadIdx.x < kWarp) produce(a, shared, own);
    } else {
      tile::increase_registers<kConsumerRegisters<kGroups == 1 ? 2 : 1>>();
      consume(a, shared, own, warpgroup - 1);
    }
  }
}

template <int kWidth, int kGroups>
void forward(const AttentionForward::Arguments& a, const DevicePattern& p,
             const ExecutionContext& context) {
  const AttentionShape& s = a.shape;
  const int bits = piece_bits(p.key_block), piece = 1 << bits;
  const HopperParameters parameters{
      boxes_of_heads(a.q_THK, s.batch, s.query_heads, s.head_dim, kGroupRows),
      boxes_of_heads(a.k_TGK, s.batch, s.kv_heads, s.head_dim, piece),
      boxes_of_heads(a.v_TGK, s.batch, s.kv_heads, s.head_dim, piece),
      p,
      head_tensor<DeviceBFloat16>(a.o_THK, s),
      device_data<float>(a.lse_BHS),
      bits};
  const dim3 grid(query_runs(s, p) * blocks_for(p.query_block, kGroupRows * kGroups),
                  static_cast<unsigned>(s.query_heads), static_cast<unsigned>(s.batch));
  launch_tiles(context, {grid, (1 + kGroups) * kWarpgroup, sizeof(HopperShared<kWidth, kGroups>)},
               attention_forward_hopper_kernel<kWidth, kGroups>, parameters);
}

// Whether this build has code for compute capability 9.0a.
#if defined(FILIGREE_SIMT) || defined(FILIGREE_HOPPER)
constexpr bool kIsBuilt = true;
#else
constexpr bool kIsBuilt = false;
#endif

bool is_hopper(int device) {
  int major = 0, minor = 0;
  const bool known =
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess;
  if (!known) cudaGetLastError();  // there is no such GPU, which is an answer
  return known && major == 9 && minor == 0;
}

// Queries that share a list: more than a list's groups have, or the sequence, never meet in a tile.
std::int64_t rows_together(const AttentionShape& shape, const AttentionPattern& pattern) {
  return pattern.lists.defined() ? std::min(pattern.lists.query_block, shape.query_length)
                                 : shape.query_length;
}

}  // namespace

std::optional<std::string> reject_hopper(const AttentionShape& s, const AttentionPattern& pattern,
                                         std::initializer_list<Tensor> tensors,
                                         const ExecutionContext& context) {
  const Tensor& q = *tensors.begin();
  if (auto problem = reject_attention_cuda(s, q)) return problem;
  if (!kIsBuilt) return "this build has no code for sm_90a (FILIGREE_CUDA_ARCHITECTURES)";
  if (q.dtype() != DType::bf16) return str("computes in bf16, not ", name_of(q.dtype()));
  if (s.head_dim <= 32 || s.head_dim % 8 != 0)
    return str("heads of more than 32 and in steps of 8, not ", s.head_dim);
  if (s.batch == 0) return "no box of an empty batch can be copied";
  if (s.key_length == 0) return "no box of an empty sequence of keys can be copied";
  if (rows_together(s, pattern) <= kFewestRows)
    return str("runs of more than ", kFewestRows, " queries with one list, not ",
               rows_together(s, pattern), ": most of the ", kGroupRows,
               " rows of a warpgroup would idle");
  if (pattern.lists.defined() && pattern.lists.key_block % kSmallestPiece != 0)
    return str("blocks of keys in steps of ", kSmallestPiece, ", not ", pattern.lists.key_block);
  for (const Tensor& tensor : tensors)
    if (!is_aligned(tensor.raw(), 16)) return "tensors aligned to 16 bytes";
  if (!is_hopper(context.device.index)) return "GPUs of compute capability 9.0";
  return std::nullopt;
}

std::optional<std::string> reject_attention_forward_hopper(const AttentionForward::Arguments& a,
                                                           const ExecutionContext& context) {
  return reject_hopper(a.shape, a.pattern, {a.q_THK, a.k_TGK, a.v_TGK}, context);
}

void attention_forward_hopper(const AttentionForward::Arguments& a, ExecutionContext& context) {
  check_arguments(a);
  if (a.o_THK.numel() == 0) return;
  const DevicePattern p = hopper_pattern(a.shape, a.pattern);
  visit_warpgroups(a.shape.head_dim, std::min<std::int64_t>(p.query_block, a.shape.query_length),
                   [&](auto width, auto groups) { forward<width(), groups()>(a, p, context); });
}

}  // namespace filigree
