#include <algorithm>

#include "kernels/elementwise/loops.hpp"
#include "kernels/gate/block_mass.hpp"
#include "kernels/gate/gate_statistics.hpp"

namespace filigree {
namespace {

// Pairs of the queries of a group with the keys [begin, end) of a block. A block before the
// diagonal is seen whole where there are no documents.
std::int64_t pairs_of(const BlockGrid& grid, std::int64_t b, std::int64_t n, BlockRange keys) {
  const std::int64_t first = std::max(grid.query_offset, grid.first_position(n));
  const bool whole = !grid.causal || (!grid.document_begin_T.defined() && keys.end <= first + 1);
  if (whole) return (grid.end_position(n) - first) * keys.size();
  std::int64_t pairs = 0;
  for (std::int64_t p = first; p < grid.end_position(n); ++p) {
    const BlockRange seen = visible_key_range(grid, b, p);
    pairs +=
        std::max<std::int64_t>(0, std::min(keys.end, seen.end) - std::max(keys.begin, seen.begin));
  }
  return pairs;
}

template <class A>
void recall(const GateRecall::Arguments& a, const ExecutionContext& context) {
  const std::int64_t H = a.grid.heads, N = a.grid.groups(), M = a.grid.key_blocks();
  const std::int64_t R = a.groups_R.numel(), J = columns_of(a.indices_BHNJ);
  const auto* counts = a.counts_BHN.data<std::int32_t>();
  const auto* indices = a.indices_BHNJ.data<std::int32_t>();
  const auto head = [&](std::int64_t h) {
    A caught = 0, total = 0;
    for (std::int64_t b = 0; b < a.grid.batch; ++b)
      for (std::int64_t r = 0; r < R; ++r) {
        const std::int64_t row = (b * H + h) * R + r;
        const std::int64_t list = (b * H + h) * N + a.groups_R.data<std::int32_t>()[r];
        const A* const teacher = a.teacher_BHRM.data<A>() + row * M;
        A mass = 0;
        for (std::int64_t s = 0; s < counts[list]; ++s) mass += teacher[indices[list * J + s]];
        caught += a.weight_BHR.data<A>()[row] * mass;
        total += a.weight_BHR.data<A>()[row];
      }
    a.caught_H.data<A>()[h] = caught;
    a.total_H.data<A>()[h] = total;
  };
  for_each_chunk(context, H, 1, a.grid.batch * R * J, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t h = begin; h < end; ++h) head(h);
  });
}

}  // namespace

void ListStatistics::cpu(const Arguments& a, ExecutionContext& context) {
  const BlockGrid& grid = a.grid;
  const std::int64_t H = grid.heads, N = grid.groups(), J = columns_of(a.indices_BHNJ);
  const auto* counts = a.counts_BHN.data<std::int32_t>();
  const auto* indices = a.indices_BHNJ.data<std::int32_t>();
  const auto head = [&](std::int64_t h) {
    std::int64_t pairs = 0, blocks = 0, forced = 0;
    for (std::int64_t b = 0; b < grid.batch; ++b)
      for (std::int64_t n = 0; n < N; ++n) {
        const std::int64_t row = (b * H + h) * N + n;
        const GroupBlocks group = group_blocks(grid, b, n);
        blocks += counts[row];
        for (std::int64_t s = 0; s < counts[row]; ++s) {
          const std::int64_t m = indices[row * J + s], begin = m * grid.key_block;
          forced += group.is_forced(m);
          pairs += pairs_of(grid, b, n, {begin, std::min(grid.key_length, begin + grid.key_block)});
        }
      }
    a.pairs_H.data<std::int64_t>()[h] = pairs;
    a.blocks_H.data<std::int64_t>()[h] = blocks;
    a.forced_H.data<std::int64_t>()[h] = forced;
  };
  for_each_chunk(context, H, 1, grid.batch * N * J, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t h = begin; h < end; ++h) head(h);
  });
}

void GateRecall::cpu(const Arguments& a, ExecutionContext& context) {
  a.teacher_BHRM.dtype() == DType::f64 ? recall<double>(a, context) : recall<float>(a, context);
}

}  // namespace filigree
