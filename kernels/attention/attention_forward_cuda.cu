// Flash attention by tiles of queries: each block of threads owns the query rows of one tile of one
// group and walks the keys that the group reads, two tiles of keys in flight.
//
// Shared memory (q, and k and v twice): bf16 43 KiB at width 64, 83 KiB at 128; f32 59 KiB at most.
// Registers: attention_cuda_budgets.txt.
#include "kernels/attention/attention_cuda.hpp"

#include <algorithm>

namespace filigree {
namespace {

using tile::Exponential;

template <class T, int kWidth, int kWarps>
struct ForwardShared {
  static constexpr int kColumns = kForwardColumns<T, kWidth, kWarps>;
  tile::SharedTile<T, 16 * kWarps, kWidth> q;
  tile::SharedTile<T, kColumns, kWidth> k[2], v[2];
  // Of three tiles: the one computed on, the next one, and the one that slow warps still read.
  int key[3][kColumns];
  int slot[3][kColumns];
  float bias[3][kColumns];
  tile::LeftOperand<T, kColumns> left[kWarps];
};

template <class T>
struct ForwardParameters {
  DevicePattern pattern;
  HeadTensor<const T> q, k, v;
  HeadTensor<T> o;
  float* lse;
};

template <class T, int kWidth, int kWarps>
__global__ void __launch_bounds__(32 * kWarps, 1)
    attention_forward_kernel(const ForwardParameters<T> a) {
  using Shared = ForwardShared<T, kWidth, kWarps>;
  static_assert(sizeof(Shared) <= 83 * 1024);
  constexpr int kColumns = Shared::kColumns;
  constexpr float kUnit = Exponential<T>::kUnit;
  Shared& shared = *reinterpret_cast<Shared*>(tile::dynamic_shared());
  const DevicePattern& p = a.pattern;
  const int b = static_cast<int>(blockIdx.z), h = static_cast<int>(blockIdx.y);
  // Under causality the last tiles read most: they come first.
  const Range queries = rows_of_tile(static_cast<int>(gridDim.x - 1 - blockIdx.x), 16 * kWarps,
                                     p.query_block, p.origin, p.query_length);
  if (queries.empty()) return;
  const int g = h / (p.query_heads / p.kv_heads);
  const auto k = a.k.head(static_cast<std::int64_t>(b) * p.key_length, g);
  const auto v = a.v.head(static_cast<std::int64_t>(b) * p.key_length, g);
  const std::int64_t query_token = static_cast<std::int64_t>(b) * p.query_length;
  const std::int64_t list = p.list(b, h, p.group_of(queries.begin));

  const auto start = [&](int stage, int at) {
    const auto key_of = [&](int r) { return shared.key[at][r]; };
    tile::start_rows(shared.k[stage], k, key_of);
    tile::start_rows(shared.v[stage], v, key_of);
    tile::cp_async_commit();
  };
  Walk walk = keys_of(p, b, h, queries);
  ColumnTile current = describe_keys(p, walk, list, shared, 0);
  tile::start_rows(shared.q, a.q.head(query_token, h),
                   [&](int r) { return queries.begin + r < queries.end ? queries.begin + r : -1; });
  __syncthreads();
  start(0, 0);

  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const LaneQueries rows(p, b, queries, 16 * warp);
  const Range common = read_by_all(p, b, queries);

  float o[kWidth / 8][4];
  tile::clear(o);
  tile::RunningSoftmax<T> softmax;
  for (int n = 0; current.filled > 0; ++n) {
    const int stage = n % 2, at = n % 3;
    const ColumnTile next = describe_keys(p, walk, list, shared, (n + 1) % 3);
    tile::cp_async_wait<0>();
    __syncthreads();
    if (next.filled > 0) start(1 - stage, (n + 1) % 3);

    float s[kColumns / 8][4];
    tile::clear(s);
    tile::multiply_transposed(s, shared.q, 16 * warp, shared.k[stage]);
    const bool is_masked = current.filled < kColumns || !current.all_chosen ||
                           current.first < common.begin || current.last >= common.end;
    for_each_sum(s, [&](int i, int column, int, int, float& logit) {
      logit *= p.scale * kUnit;
      if (p.bias != nullptr) logit += shared.bias[at][column] * kUnit;
      if (is_masked &&
          !reads(p, rows.reach[i], shared.key[at][column], shared.slot[at][column] != kPart))
        logit = -INFINITY;
    });
    float rescale[2];
    softmax.add(s, rescale);
    tile::scale_rows(o, rescale);
    tile::multiply<kColumns, kWidth>(o, s, shared.v[stage], shared.left[warp]);
    current = next;
  }

  tile::cp_async_wait<0>();
  softmax.finish();
  float factor[2];
  for (int i = 0; i < 2; ++i) {
    factor[i] = softmax.sum[i] == 0.0f ? 0.0f : 1.0f / softmax.sum[i];
    if (lane % 4 == 0 && rows.query[i] >= 0) a.lse[p.row(b, h, rows.query[i])] = softmax.log_sum(i);
  }
  tile::store_rows(a.o.head(query_token, h), o, factor, [&](int i) { return rows.query[i]; });
}

template <class T, int kWidth, int kWarps>
void forward(const AttentionForward::Arguments& a, const DevicePattern& p,
             const ExecutionContext& context) {
  const AttentionShape& s = a.shape;
  const ForwardParameters<T> parameters{p,
                                        head_tensor<const T>(a.q_THK, s),
                                        head_tensor<const T>(a.k_TGK, s),
                                        head_tensor<const T>(a.v_TGK, s),
                                        head_tensor<T>(a.o_THK, s),
                                        device_data<float>(a.lse_BHS)};
  const dim3 grid(query_runs(s, p) * blocks_for(p.query_block, 16 * kWarps),
                  static_cast<unsigned>(s.query_heads), static_cast<unsigned>(s.batch));
  launch_tiles(context, {grid, 32 * kWarps, sizeof(ForwardShared<T, kWidth, kWarps>)},
               attention_forward_kernel<T, kWidth, kWarps>, parameters);
}

}  // namespace

DevicePattern device_pattern(const AttentionShape& s, const AttentionPattern& pattern) {
  static constexpr std::int64_t kFar = 1 << 29;  // farther than any two positions
  const auto narrow = [](std::int64_t value) { return static_cast<int>(std::min(value, kFar)); };
  DevicePattern p{};
  p.query_length = narrow(s.query_length), p.key_length = narrow(s.key_length);
  p.query_heads = narrow(s.query_heads), p.kv_heads = narrow(s.kv_heads);
  p.query_offset = static_cast<int>(s.query_offset);
  p.window = narrow(pattern.window), p.sinks = narrow(pattern.sinks);
  p.causal = s.causal, p.reads_everything = pattern.reads_everything();
  p.scale = static_cast<float>(s.scale);
  p.bias = device_data<float>(pattern.bias_BHNJ);
  p.document_begin = device_data<std::int32_t>(pattern.document_begin_T);
  p.document_end = device_data<std::int32_t>(pattern.document_end_T);
  p.query_block = p.key_block = 64;  // without lists: what a tile of many rows takes
  if (!pattern.lists.defined()) return p;
  const BlockLists& lists = pattern.lists;
  p.counts = device_data<std::int32_t>(lists.counts_BHN);
  p.indices = device_data<std::int32_t>(lists.indices_BHNJ);
  p.transposed_counts = device_data<std::int32_t>(lists.transposed_counts_BHM);
  p.transposed_indices = device_data<std::int32_t>(lists.transposed_indices_BHMN);
  p.query_block = narrow(lists.query_block), p.key_block = narrow(lists.key_block);
  p.groups = static_cast<int>(lists.counts_BHN.dim(2));
  p.slots = static_cast<int>(lists.indices_BHNJ.dim(3));
  p.blocks = static_cast<int>(lists.transposed_counts_BHM.dim(2));
  p.origin = static_cast<int>(s.query_offset % lists.query_block);
  return p;
}

std::optional<std::string> reject_attention_cuda(const AttentionShape& shape, const Tensor& q) {
  if (q.dtype() != DType::f32 && q.dtype() != DType::bf16)
    return str("computes in f32 and bf16, not in ", name_of(q.dtype()));
  if (shape.head_dim > kWidestHead)
    return str("heads of up to ", kWidestHead, ", not ", shape.head_dim);
  constexpr std::int64_t kLongest = 1 << 28;  // positions and distances are 32-bit
  if (std::max({shape.query_length, shape.key_length, std::abs(shape.query_offset)}) > kLongest)
    return str("sequences of up to ", kLongest, " tokens");
  return std::nullopt;
}

std::optional<std::string> AttentionForward::reject(const Arguments& a, const ExecutionContext&) {
  return reject_attention_cuda(a.shape, a.q_THK);
}

void AttentionForward::cuda(const Arguments& a, ExecutionContext& context) {
  check_arguments(a);
  if (a.o_THK.numel() == 0) return;
  const DevicePattern p = device_pattern(a.shape, a.pattern);
  visit_device(a.q_THK.dtype(), [&](auto type) {
    using T = decltype(type);
    visit_width(a.shape.head_dim, [&](auto width) {
      const std::int64_t rows = std::min<std::int64_t>(p.query_block, a.shape.query_length);
      visit_warps<kManyWarps<T, width()>>(
          rows, [&](auto warps) { forward<T, width(), warps()>(a, p, context); });
    });
  });
}

}  // namespace filigree
