// A warp for each list. Limited by memory: a row of scores is read once from device memory and
// again from the first-level cache while its cut is searched.
#include <cmath>
#include <cstdio>

#include "kernels/attention/block_selection.hpp"
#include "kernels/cuda/device.hpp"
#include "kernels/cuda/launch.hpp"
#include "kernels/gate/list_check.hpp"

namespace filigree {
namespace {

constexpr int kWarps = 4;     // of a block of threads
constexpr int kDigits = 256;  // of a byte of a key

struct Selection {
  GridView grid;
  bool is_threshold;
  float log_threshold;
  const float* scores_BHNM;
  const std::int32_t* budgets_N;
  const std::uint8_t* dense_heads_H;  // may be null, like the next
  const float* head_scores_NH;
  float head_threshold;
  std::int32_t *counts_BHN, *indices_BHNJ;
  std::int64_t capacity;
};

// A score as an unsigned integer of the same order. -0 and 0, which are equal, give the same one.
__device__ __forceinline__ std::uint32_t key_of(float score) {
  const std::uint32_t bits = __float_as_uint(score + 0.0f);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}

// Chosen are the forced blocks, the candidates with a key above `key`, and the first `ties` that
// have it.
struct Cut {
  std::uint32_t key;
  std::int64_t ties;
};
constexpr std::uint32_t kNone = 0xffffffffu;  // the key of no score

// The digit of the `want`-th largest key among those counted, by a warp; `want` becomes its rank
// within that digit.
__device__ std::uint32_t digit_of_rank(const std::int32_t* counts, std::int64_t& want, int lane) {
  constexpr int kOwn = kDigits / kWarp;  // digits of a lane, the first lane has the largest
  const int top = kDigits - 1 - lane * kOwn;
  std::int32_t own = 0;
  for (int i = 0; i < kOwn; ++i) own += counts[top - i];
  std::int32_t above = own;
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const std::int32_t other = __shfl_up_sync(kWholeWarp, above, distance);
    if (lane >= distance) above += other;
  }
  above -= own;  // keys in the digits of the lanes before
  const unsigned holders = __ballot_sync(kWholeWarp, above + own >= want);
  const int holder = __ffs(static_cast<int>(holders)) - 1;
  std::uint32_t digit = 0;
  std::int64_t rank = want - above;
  if (lane == holder)
    for (int i = 0; i < kOwn; ++i) {
      digit = static_cast<std::uint32_t>(top - i);
      if (rank <= counts[digit]) break;
      rank -= counts[digit];
    }
  want = __shfl_sync(kWholeWarp, rank, holder);
  return __shfl_sync(kWholeWarp, digit, holder);
}

// The cut that keeps `want` candidates that are not forced, of which there are more: a radix
// selection, a byte of the key at a time.
__device__ Cut top_k_cut(const GroupBlocks& blocks, const float* z, std::int64_t want,
                         std::int32_t* counts, int lane) {
  std::uint32_t prefix = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (int digit = lane; digit < kDigits; digit += kWarp) counts[digit] = 0;
    __syncwarp();
    for (std::int64_t m = blocks.candidates.begin + lane; m < blocks.candidates.end; m += kWarp) {
      const std::uint32_t key = key_of(z[m]);
      const bool is_counted = shift == 24 || key >> (shift + 8) == prefix;
      if (is_counted && !blocks.is_forced(m)) atomicAdd(&counts[key >> shift & 255u], 1);
    }
    __syncwarp();
    prefix = prefix << 8 | digit_of_rank(counts, want, lane);
    __syncwarp();
  }
  return {prefix, want};
}

// In logarithms, so that threshold 0 takes probabilities that would vanish.
__device__ Cut threshold_cut(const GroupBlocks& blocks, const float* z, float log_threshold,
                             int lane) {
  const BlockRange candidates = blocks.candidates;
  float largest = -INFINITY;
  for (std::int64_t m = candidates.begin + lane; m < candidates.end; m += kWarp)
    largest = fmaxf(largest, z[m]);
  largest = warp_max(largest);
  double sum = 0.0;
  for (std::int64_t m = candidates.begin + lane; m < candidates.end; m += kWarp)
    sum += static_cast<double>(expf(z[m] - largest));
  sum = warp_sum(sum);
  return {key_of(largest + static_cast<float>(log(sum)) + log_threshold), 0};
}

__device__ Cut find_cut(const Selection& s, const GroupBlocks& blocks, std::int64_t n,
                        const float* z, std::int32_t* counts, int lane) {
  if (blocks.candidates.size() == 0) return {kNone, 0};
  if (s.is_threshold) return threshold_cut(blocks, z, s.log_threshold, lane);
  const std::int64_t budget = s.budgets_N[n];
  if (budget >= blocks.allowed.size()) return {0, 0};
  if (budget <= blocks.forced()) return {kNone, 0};
  return top_k_cut(blocks, z, budget - blocks.forced(), counts, lane);
}

// Whether the head gate has closed head h for the group: not dense heads, nor where another
// document begins inside the group.
__device__ bool is_skipped(const Selection& s, std::int64_t b, std::int64_t h, std::int64_t n) {
  if (s.head_scores_NH == nullptr) return false;
  const std::int64_t row = (b * s.grid.groups() + n) * s.grid.heads + h;
  return s.head_scores_NH[row] < s.head_threshold && !spans_documents(s.grid, b, n);
}

// Writes the chosen blocks, ascending, while they fit; returns how many there are.
__device__ std::int64_t collect(const Selection& s, const GroupBlocks& blocks, const float* z,
                                Cut cut, bool is_dense, std::int32_t* indices, int lane) {
  const unsigned before = (1u << lane) - 1;
  std::int64_t count = 0;
  for (std::int64_t begin = blocks.allowed.begin; begin < blocks.allowed.end; begin += kWarp) {
    const std::int64_t m = begin + lane;
    bool is_chosen = m < blocks.allowed.end && (is_dense || blocks.is_forced(m));
    bool is_tie = false;
    if (!is_chosen && !is_dense && blocks.candidates.contains(m)) {
      const std::uint32_t key = key_of(z[m]);
      is_chosen = key > cut.key;
      is_tie = key == cut.key;
    }
    const unsigned ties = __ballot_sync(kWholeWarp, is_tie);
    is_chosen = is_chosen || (is_tie && __popc(ties & before) < cut.ties);
    cut.ties -= __popc(ties);
    const unsigned chosen = __ballot_sync(kWholeWarp, is_chosen);
    const std::int64_t slot = count + __popc(chosen & before);
    if (is_chosen && slot < s.capacity) indices[slot] = static_cast<std::int32_t>(m);
    count += __popc(chosen);
  }
  return count;
}

__global__ void __launch_bounds__(kWarps* kWarp) select_kernel(Selection s) {
  __shared__ std::int32_t digit_counts[kWarps][kDigits];
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = threadIdx.x % kWarp;
  const std::int64_t N = s.grid.groups(), H = s.grid.heads;
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kWarps + warp;
  if (row >= s.grid.batch * H * N) return;
  const std::int64_t b = row / (H * N), h = row / N % H, n = row % N;
  const GroupBlocks blocks = group_blocks(s.grid, b, n);
  const float* const z = s.scores_BHNM + row * s.grid.key_blocks();
  std::int32_t* const indices = s.indices_BHNJ + row * s.capacity;
  const bool is_dense = s.dense_heads_H != nullptr && s.dense_heads_H[h] != 0;
  std::int64_t count = 0;
  if (is_dense || !is_skipped(s, b, h, n)) {
    const Cut cut = is_dense ? Cut{kNone, 0} : find_cut(s, blocks, n, z, digit_counts[warp], lane);
    count = collect(s, blocks, z, cut, is_dense, indices, lane);
  }
  if (count > s.capacity) {  // never cut short: attention over a part of a list would be wrong
    if (lane == 0)
      printf(
          "block_select: sequence %lld, head %lld, group %lld: more blocks than the capacity "
          "%lld\n",
          static_cast<long long>(b), static_cast<long long>(h), static_cast<long long>(n),
          static_cast<long long>(s.capacity));
    __trap();
  }
  for (std::int64_t slot = count + lane; slot < s.capacity; slot += kWarp) indices[slot] = -1;
  if (lane == 0) s.counts_BHN[row] = static_cast<std::int32_t>(count);
}

// ---- the transpose: a bit for each (block, group), set in any order and read in ascending order;
// a 32nd of the size of the transposed lists ----

__global__ void __launch_bounds__(256)
    mark_kernel(const std::int32_t* counts, const std::int32_t* indices, std::int64_t rows,
                std::int64_t N, std::int64_t M, std::int64_t J, std::int64_t words,
                unsigned int* bits) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= rows * J || i % J >= counts[i / J]) return;
  const std::int64_t n = i / J % N, list = i / J / N;
  atomicOr(&bits[(list * M + indices[i]) * words + n / 32], 1u << (n % 32));
}

__global__ void __launch_bounds__(kWarps* kWarp)
    fill_kernel(const unsigned int* bits, std::int64_t rows, std::int64_t N, std::int64_t words,
                std::int32_t* counts, std::int32_t* indices) {
  const int lane = threadIdx.x % kWarp;
  const std::int64_t row =
      static_cast<std::int64_t>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / kWarp;
  if (row >= rows) return;
  std::int32_t* const to = indices + row * N;
  std::int64_t count = 0;
  for (std::int64_t first = 0; first < words; first += kWarp) {
    const unsigned int own = first + lane < words ? bits[row * words + first + lane] : 0u;
    for (unsigned rest = __ballot_sync(kWholeWarp, own != 0); rest != 0; rest &= rest - 1) {
      const int word = __ffs(static_cast<int>(rest)) - 1;
      const unsigned int groups = __shfl_sync(kWholeWarp, own, word);
      if (groups >> lane & 1u)
        to[count + __popc(groups & ((1u << lane) - 1))] =
            static_cast<std::int32_t>((first + word) * 32 + lane);
      count += __popc(groups);
    }
  }
  for (std::int64_t slot = count + lane; slot < N; slot += kWarp) to[slot] = -1;
  if (lane == 0) counts[row] = static_cast<std::int32_t>(count);
}

}  // namespace

void BlockSelect::cuda(const Arguments& a, ExecutionContext& context) {
  const bool is_threshold = a.rule == SelectionRule::threshold;
  const Selection selection{
      .grid = a.grid.view(),
      .is_threshold = is_threshold,
      .log_threshold = is_threshold ? static_cast<float>(std::log(a.threshold)) : 0.0f,
      .scores_BHNM = device_data<float>(a.scores_BHNM),
      .budgets_N = is_threshold ? nullptr : device_data<std::int32_t>(a.budgets_N),
      .dense_heads_H = device_data<std::uint8_t>(a.dense_heads_H),
      .head_scores_NH = device_data<float>(a.head_scores_NH),
      .head_threshold = static_cast<float>(a.head_threshold),
      .counts_BHN = device_data<std::int32_t>(a.counts_BHN),
      .indices_BHNJ = device_data<std::int32_t>(a.indices_BHNJ),
      .capacity = columns_of(a.indices_BHNJ)};
  launch(context, {blocks_for(list_rows(a.grid), kWarps), kWarps * kWarp}, select_kernel,
         selection);
}

void BlockTranspose::cuda(const Arguments& a, ExecutionContext& context) {
  const std::int64_t N = a.counts_BHN.dim(2), M = a.transposed_counts_BHM.dim(2);
  const std::int64_t J = columns_of(a.indices_BHNJ), words = (N + 31) / 32;
  const std::int64_t rows = a.transposed_counts_BHM.numel();
  const Tensor bits = context.empty({rows, words}, DType::i32);
  context.zero(bits);
  auto* const data = static_cast<unsigned int*>(bits.raw());
  launch(context, {blocks_for(a.indices_BHNJ.numel(), 256), 256}, mark_kernel,
         device_data<std::int32_t>(a.counts_BHN), device_data<std::int32_t>(a.indices_BHNJ),
         a.counts_BHN.numel(), N, M, J, words, data);
  launch(context, {blocks_for(rows, kWarps), kWarps * kWarp}, fill_kernel, data, rows, N, words,
         device_data<std::int32_t>(a.transposed_counts_BHM),
         device_data<std::int32_t>(a.transposed_indices_BHMN));
}

}  // namespace filigree
