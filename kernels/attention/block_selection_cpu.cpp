#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <limits>

#include "kernels/attention/block_selection.hpp"
#include "kernels/elementwise/vector_math.hpp"
#include "kernels/gate/list_check.hpp"

namespace filigree {
namespace {

constexpr std::int64_t kRowsPerTask = 64;

// A block is chosen when it is forced, its score is above `limit`, or it equals the limit and is
// among the first `ties` that do.
template <class A>
struct Cut {
  A limit;
  std::int64_t ties;
};

// The cut that keeps the `left` best of the free candidates.
template <class A>
Cut<A> top_k_cut(const GroupBlocks& blocks, const A* z, std::int64_t left, A* buffer) {
  constexpr A kInfinity = std::numeric_limits<A>::infinity();
  if (left <= 0) return {kInfinity, 0};
  if (left >= blocks.free()) return {-kInfinity, blocks.free()};
  A* end = buffer;
  for (std::int64_t m = blocks.candidates.begin; m < blocks.candidates.end; ++m)
    if (!blocks.is_forced(m)) *end++ = z[m];
  std::nth_element(buffer, buffer + left - 1, end, std::greater<A>());
  const A limit = buffer[left - 1];
  // What lies before the position is not below the limit.
  const auto equal = std::count(buffer, buffer + left, limit);
  return {limit, static_cast<std::int64_t>(equal)};
}

template <class A>
Cut<A> threshold_cut(const GroupBlocks& blocks, const A* z, double threshold, A* buffer) {
  const std::int64_t begin = blocks.candidates.begin, end = blocks.candidates.end;
  if (begin == end) return {A{0}, 0};
  const A largest = *std::max_element(z + begin, z + end);
  exp_loop<A>(begin, end, [=](std::int64_t m) { buffer[m] = vector_exp(z[m] - largest); });
  A sum = 0;
  for (std::int64_t m = begin; m < end; ++m) sum += buffer[m];
  return {largest + std::log(sum) + static_cast<A>(std::log(threshold)), 0};
}

// Writes at most J indices; returns how many the group reads.
template <class A>
std::int64_t write_list(const GroupBlocks& blocks, bool dense, const A* z, Cut<A> cut,
                        std::int64_t J, std::int32_t* indices) {
  std::int64_t count = 0;
  const auto put = [&](std::int64_t m) {
    if (count < J) indices[count] = static_cast<std::int32_t>(m);
    ++count;
  };
  for (std::int64_t m = blocks.allowed.begin; m < blocks.allowed.end; ++m) {
    if (dense || blocks.is_forced(m)) {
      put(m);
    } else if (z[m] > cut.limit) {
      put(m);
    } else if (z[m] == cut.limit && cut.ties > 0) {
      --cut.ties;
      put(m);
    }
  }
  if (count < J) std::fill(indices + count, indices + J, -1);
  return count;
}

template <class A>
void select(const BlockSelect::Arguments& a, const ExecutionContext& context) {
  const std::int64_t N = a.grid.groups(), M = a.grid.key_blocks(), H = a.grid.heads;
  const std::int64_t J = columns_of(a.indices_BHNJ), rows = a.grid.batch * H * N;
  const Tensor buffers = context.empty({std::max(1, context.num_threads), M}, dtype_of<A>);
  std::atomic<std::int64_t> overflow{rows};  // the first row that does not fit
  const int threads = rows * M < kParallelElements ? 1 : context.num_threads;
  parallel_for(
      (rows + kRowsPerTask - 1) / kRowsPerTask, threads, [&](std::int64_t task, int thread) {
        A* const buffer = buffers.data<A>() + thread * M;
        for (std::int64_t row = task * kRowsPerTask;
             row < std::min(rows, (task + 1) * kRowsPerTask); ++row) {
          const std::int64_t b = row / (H * N), h = row / N % H, n = row % N;
          const GroupBlocks blocks = group_blocks(a.grid, b, n);
          const A* const z = a.scores_BHNM.data<A>() + row * M;
          const bool dense = is_dense_head(a.dense_heads_H, h);
          Cut<A> cut{};
          if (!dense)
            cut = a.rule == SelectionRule::threshold
                      ? threshold_cut(blocks, z, a.threshold, buffer)
                      : top_k_cut(blocks, z, a.budgets_N.data<std::int32_t>()[n] - blocks.forced(),
                                  buffer);
          const std::int64_t count =
              write_list(blocks, dense, z, cut, J, a.indices_BHNJ.data<std::int32_t>() + row * J);
          a.counts_BHN.data<std::int32_t>()[row] = static_cast<std::int32_t>(count);
          if (count > J)
            for (std::int64_t seen = overflow;
                 row < seen && !overflow.compare_exchange_weak(seen, row);) {
            }
        }
      });
  const std::int64_t row = overflow;
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
