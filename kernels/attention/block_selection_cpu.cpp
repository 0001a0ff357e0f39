#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <type_traits>

#include "kernels/attention/block_selection.hpp"
#include "kernels/elementwise/vector_math.hpp"
#include "kernels/gate/list_check.hpp"

namespace filigree {
namespace {

constexpr std::int64_t kRowsPerTask = 64;

// A score as an integer of the same order, so that a cut between two scores is an integer between
// two integers. -0 and 0, which are equal, give the same one.
template <class A>
using Key = std::conditional_t<sizeof(A) == sizeof(float), std::int32_t, std::int64_t>;

template <class A>
inline Key<A> key_of(A score) {
  const auto bits = std::bit_cast<Key<A>>(score + A{0});
  return bits < 0 ? bits ^ std::numeric_limits<Key<A>>::max() : bits;
}

// What a group may list, blocks.allowed: keys of the scores, and the largest of all where forced.
template <class A>
void load_keys(const GroupBlocks& blocks, const A* z, Key<A>* keys) {
  constexpr Key<A> kForced = std::numeric_limits<Key<A>>::max();
  Key<A>* const key = keys - blocks.allowed.begin;
  vector_loop(blocks.candidates.begin, blocks.candidates.end,
              [=](std::int64_t m) { key[m] = key_of(z[m]); });
  std::fill(key + blocks.diagonal.begin, key + blocks.diagonal.end, kForced);
  if (blocks.first >= 0) key[blocks.first] = kForced;
  std::fill(key + blocks.local.begin, key + blocks.local.end, kForced);
}

template <class K>
std::int64_t count_from(const K* keys, std::int64_t count, K limit) {
  K result = 0;
#pragma omp simd reduction(+ : result)
  for (std::int64_t i = 0; i < count; ++i) result += keys[i] >= limit;
  return static_cast<std::int64_t>(result);
}

// Chosen are the keys from `limit` on, and the first `ties` that are one less.
template <class K>
struct Cut {
  K limit;
  std::int64_t ties;
};

// The cut that keeps the `budget` largest keys; bisection of the range of keys, which ends as soon
// as a limit keeps just so many and at the latest between two neighbours.
template <class K>
Cut<K> top_k_cut(const K* keys, std::int64_t count, std::int64_t forced, std::int64_t budget) {
  using Unsigned = std::make_unsigned_t<K>;
  if (budget >= count) return {std::numeric_limits<K>::min(), 0};
  if (budget <= forced) return {std::numeric_limits<K>::max(), 0};
  K low = std::numeric_limits<K>::min(), high = std::numeric_limits<K>::max();
  std::int64_t from_high =
      forced;  // keys from `low` on are more than the budget, from `high` fewer
  while (true) {
    const Unsigned distance = static_cast<Unsigned>(high) - static_cast<Unsigned>(low);
    if (distance == 1) return {high, budget - from_high};
    const K middle = static_cast<K>(static_cast<Unsigned>(low) + distance / 2);
    const std::int64_t kept = count_from(keys, count, middle);
    if (kept == budget) return {middle, 0};
    if (kept > budget) {
      low = middle;
    } else {
      high = middle;
      from_high = kept;
    }
  }
}

// buffer: room for a row of scores.
template <class A>
Cut<Key<A>> threshold_cut(const BlockRange& candidates, const A* z, double threshold, A* buffer) {
  const std::int64_t begin = candidates.begin, end = candidates.end;
  if (begin == end) return {std::numeric_limits<Key<A>>::max(), 0};
  const A largest = *std::max_element(z + begin, z + end);
  exp_loop<A>(begin, end, [=](std::int64_t m) { buffer[m] = vector_exp(z[m] - largest); });
  A sum = 0;
  for (std::int64_t m = begin; m < end; ++m) sum += buffer[m];
  return {key_of(largest + std::log(sum) + static_cast<A>(std::log(threshold))) + 1, 0};
}

// The blocks that the cut keeps, ascending; returns how many. chosen has room for all.
template <class K>
std::int64_t collect(const K* keys, std::int64_t first_block, std::int64_t count, Cut<K> cut,
                     std::int32_t* chosen) {
  std::int64_t kept = 0;
  const auto first = static_cast<std::int32_t>(first_block);
  for (std::int64_t i = 0; i < count; ++i) {
    chosen[kept] = first + static_cast<std::int32_t>(i);
    bool keep = keys[i] >= cut.limit;
    if (cut.ties > 0 && keys[i] == cut.limit - 1) {
      --cut.ties;
      keep = true;
    }
    kept += keep;
  }
  return kept;
}

// Scratch memory of one thread.
template <class A>
struct Buffers {
  Tensor scores, keys, chosen;  // [threads, M + 1]; collect writes one past what it keeps
  Buffers(const ExecutionContext& context, std::int64_t M)
      : scores(context.empty({std::max(1, context.num_threads), M + 1}, dtype_of<A>)),
        keys(context.empty(scores.shape(), dtype_of<A> == DType::f64 ? DType::i64 : DType::i32)),
        chosen(context.empty(scores.shape(), DType::i32)) {}
  template <class T>
  T* row(const Tensor& buffer, int thread) const {
    return buffer.data<T>() + thread * buffer.dim(1);
  }
};

template <class A>
bool skips_head(const BlockSelect::Arguments& a, std::int64_t b, std::int64_t h, std::int64_t n) {
  const std::int64_t row = (b * a.grid.groups() + n) * a.grid.heads + h;
  return a.head_scores_NH.data<A>()[row] < static_cast<A>(a.head_threshold) &&
         is_head_gated(a.grid, a.dense_heads_H, b, h, n);
}

// Writes the first J blocks of the list of one row; returns how many there are.
template <class A>
std::int64_t select_row(const BlockSelect::Arguments& a, std::int64_t row,
                        const Buffers<A>& buffers, int thread) {
  const std::int64_t N = a.grid.groups(), M = a.grid.key_blocks(), H = a.grid.heads;
  const std::int64_t J = columns_of(a.indices_BHNJ), n = row % N;
  const GroupBlocks blocks = group_blocks(a.grid, row / (H * N), n);
  const std::int64_t allowed = blocks.allowed.size();
  std::int32_t* const indices = a.indices_BHNJ.data<std::int32_t>() + row * J;
  std::int32_t* chosen = buffers.template row<std::int32_t>(buffers.chosen, thread);
  std::int64_t count = allowed;
  if (is_dense_head(a.dense_heads_H, row / N % H)) {
    std::iota(chosen, chosen + allowed, static_cast<std::int32_t>(blocks.allowed.begin));
  } else if (a.head_scores_NH.defined() && skips_head<A>(a, row / (H * N), row / N % H, n)) {
    count = 0;
  } else {
    const A* const z = a.scores_BHNM.data<A>() + row * M;
    Key<A>* const keys = buffers.template row<Key<A>>(buffers.keys, thread);
    load_keys(blocks, z, keys);
    const Cut<Key<A>> cut =
        a.rule == SelectionRule::threshold
            ? threshold_cut(blocks.candidates, z, a.threshold,
                            buffers.template row<A>(buffers.scores, thread))
            : top_k_cut(keys, allowed, blocks.forced(), a.budgets_N.data<std::int32_t>()[n]);
    count = collect(keys, blocks.allowed.begin, allowed, cut, chosen);
  }
  std::copy_n(chosen, std::min(count, J), indices);
  if (count < J) std::fill(indices + count, indices + J, -1);
  return count;
}

template <class A>
void select(const BlockSelect::Arguments& a, const ExecutionContext& context) {
  const std::int64_t N = a.grid.groups(), M = a.grid.key_blocks(), H = a.grid.heads;
  const std::int64_t J = columns_of(a.indices_BHNJ), rows = a.grid.batch * H * N;
  const Buffers<A> buffers(context, M);
  std::int32_t* const counts = a.counts_BHN.data<std::int32_t>();
  const int threads = rows * M < kParallelElements ? 1 : context.num_threads;
  parallel_for((rows + kRowsPerTask - 1) / kRowsPerTask, threads,
               [&](std::int64_t task, int thread) {
                 const std::int64_t end = std::min(rows, (task + 1) * kRowsPerTask);
                 for (std::int64_t row = task * kRowsPerTask; row < end; ++row)
                   counts[row] = static_cast<std::int32_t>(select_row(a, row, buffers, thread));
               });
  const std::int64_t row =
      std::find_if(counts, counts + rows, [J](auto c) { return c > J; }) - counts;
  FILIGREE_CHECK(row == rows, "sequence ", row / (H * N), ", head ", row / N % H, ", group ",
                 row % N, ": more blocks than the capacity ", J);
}

}  // namespace

void BlockSelect::cpu(const Arguments& a, ExecutionContext& context) {
  a.scores_BHNM.dtype() == DType::f64 ? select<double>(a, context) : select<float>(a, context);
}

// Groups are taken in ascending order, so that the lists of each block come out ascending.
void BlockTranspose::cpu(const Arguments& a, ExecutionContext& context) {
  const std::int64_t lists = a.counts_BHN.dim(0) * a.counts_BHN.dim(1), N = a.counts_BHN.dim(2);
  const std::int64_t M = a.transposed_counts_BHM.dim(2), J = columns_of(a.indices_BHNJ);
  const int threads = lists * N * J < kParallelElements ? 1 : context.num_threads;
  parallel_for(lists, threads, [&](std::int64_t list, int) {
    const auto* counts = a.counts_BHN.data<std::int32_t>() + list * N;
    const auto* indices = a.indices_BHNJ.data<std::int32_t>() + list * N * J;
    auto* to_counts = a.transposed_counts_BHM.data<std::int32_t>() + list * M;
    auto* to_indices = a.transposed_indices_BHMN.data<std::int32_t>() + list * M * N;
    std::fill(to_counts, to_counts + M, 0);
    for (std::int64_t n = 0; n < N; ++n)
      for (std::int64_t slot = 0; slot < counts[n]; ++slot) {
        const std::int64_t m = indices[n * J + slot];
        to_indices[m * N + to_counts[m]++] = static_cast<std::int32_t>(n);
      }
    for (std::int64_t m = 0; m < M; ++m)
      std::fill(to_indices + m * N + to_counts[m], to_indices + (m + 1) * N, -1);
  });
}

}  // namespace filigree
