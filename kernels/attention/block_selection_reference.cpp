#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/attention/block_selection.hpp"
#include "kernels/gate/list_check.hpp"

namespace filigree {
namespace {

template <class A>
std::vector<bool> chosen_blocks(const BlockSelect::Arguments& a, const GroupBlocks& blocks,
                                std::int64_t n, const A* z) {
  std::vector<bool> chosen(static_cast<std::size_t>(a.grid.key_blocks()), false);
  for (std::int64_t m = blocks.allowed.begin; m < blocks.allowed.end; ++m)
    chosen[m] = blocks.is_forced(m);
  std::vector<std::int64_t> order(static_cast<std::size_t>(blocks.candidates.size()));
  std::iota(order.begin(), order.end(), blocks.candidates.begin);
  if (a.rule == SelectionRule::top_k) {
    std::stable_sort(order.begin(), order.end(), [z](auto i, auto j) { return z[i] > z[j]; });
    std::int64_t left = a.budgets_N.data<std::int32_t>()[n] - blocks.forced();
    for (const std::int64_t m : order)
      if (!chosen[m] && left-- > 0) chosen[m] = true;
    return chosen;
  }
  A largest = -std::numeric_limits<A>::infinity(), sum = 0;
  for (const std::int64_t m : order) largest = std::max(largest, z[m]);
  for (const std::int64_t m : order) sum += std::exp(z[m] - largest);
  // In logarithms, so that threshold 0 takes probabilities that would vanish.
  const A limit = largest + std::log(sum) + static_cast<A>(std::log(a.threshold));
  for (const std::int64_t m : order)
    if (z[m] > limit) chosen[m] = true;
  return chosen;
}

template <class A>
void select(const BlockSelect::Arguments& a) {
  const std::int64_t N = a.grid.groups(), M = a.grid.key_blocks(), H = a.grid.heads;
  const std::int64_t J = columns_of(a.indices_BHNJ);
  for (std::int64_t row = 0; row < a.grid.batch * H * N; ++row) {
    const std::int64_t b = row / (H * N), h = row / N % H, n = row % N;
    const GroupBlocks blocks = group_blocks(a.grid, b, n);
    const bool dense = is_dense_head(a.dense_heads_H, h);
    const bool skipped =
        a.head_scores_NH.defined() && is_head_gated(a.grid, a.dense_heads_H, b, h, n) &&
        a.head_scores_NH.data<A>()[(b * N + n) * H + h] < static_cast<A>(a.head_threshold);
    const std::vector<bool> chosen =
        dense || skipped ? std::vector<bool>()
                         : chosen_blocks(a, blocks, n, a.scores_BHNM.data<A>() + row * M);
    std::int32_t* indices = a.indices_BHNJ.data<std::int32_t>() + row * J;
    std::int64_t count = 0;
    for (std::int64_t m = blocks.allowed.begin; m < blocks.allowed.end; ++m) {
      if (skipped || (!dense && !chosen[m])) continue;
      FILIGREE_CHECK(count < J, "sequence ", b, ", head ", h, ", group ", n,
                     ": more blocks than the capacity ", J);
      indices[count++] = static_cast<std::int32_t>(m);
    }
    std::fill(indices + count, indices + J, -1);
    a.counts_BHN.data<std::int32_t>()[row] = static_cast<std::int32_t>(count);
  }
}

}  // namespace

void BlockSelect::reference(const Arguments& a, ExecutionContext&) {
  a.scores_BHNM.dtype() == DType::f64 ? select<double>(a) : select<float>(a);
}

void BlockTranspose::reference(const Arguments& a, ExecutionContext&) {
  const std::int64_t lists = a.counts_BHN.dim(0) * a.counts_BHN.dim(1), N = a.counts_BHN.dim(2);
  const std::int64_t M = a.transposed_counts_BHM.dim(2), J = columns_of(a.indices_BHNJ);
  const auto* counts = a.counts_BHN.data<std::int32_t>();
  const auto* indices = a.indices_BHNJ.data<std::int32_t>();
  for (std::int64_t list = 0; list < lists; ++list)
    for (std::int64_t m = 0; m < M; ++m) {
      const std::int64_t row = list * M + m;
      std::int32_t* to = a.transposed_indices_BHMN.data<std::int32_t>() + row * N;
      std::int32_t count = 0;
      for (std::int64_t n = 0; n < N; ++n) {
        const auto* begin = indices + (list * N + n) * J;
        const auto* end = begin + counts[list * N + n];
        if (std::find(begin, end, m) != end) to[count++] = static_cast<std::int32_t>(n);
      }
      std::fill(to + count, to + N, -1);
      a.transposed_counts_BHM.data<std::int32_t>()[row] = count;
    }
}

}  // namespace filigree
