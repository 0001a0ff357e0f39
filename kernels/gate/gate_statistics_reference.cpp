#include "kernels/gate/block_mass.hpp"
#include "kernels/gate/gate_statistics.hpp"

namespace filigree {
namespace {

// Pairs of the queries of group n of sequence b with the keys of block m.
std::int64_t pairs_of(const BlockGrid& grid, std::int64_t b, std::int64_t n, std::int64_t m) {
  std::int64_t pairs = 0;
  for (std::int64_t p = std::max(grid.query_offset, grid.first_position(n));
       p < grid.end_position(n); ++p)
    for (std::int64_t key = m * grid.key_block;
         key < std::min(grid.key_length, (m + 1) * grid.key_block); ++key)
      pairs += visible_key_range(grid, b, p).contains(key);
  return pairs;
}

template <class A>
void recall(const GateRecall::Arguments& a) {
  const std::int64_t H = a.grid.heads, N = a.grid.groups(), M = a.grid.key_blocks();
  const std::int64_t R = a.groups_R.numel(), J = columns_of(a.indices_BHNJ);
  for (std::int64_t h = 0; h < H; ++h) {
    A caught = 0, total = 0;
    for (std::int64_t b = 0; b < a.grid.batch; ++b)
      for (std::int64_t r = 0; r < R; ++r) {
        const std::int64_t row = (b * H + h) * R + r;
        const std::int64_t list = (b * H + h) * N + a.groups_R.data<std::int32_t>()[r];
        A mass = 0;
        for (std::int64_t s = 0; s < a.counts_BHN.data<std::int32_t>()[list]; ++s)
          mass +=
              a.teacher_BHRM.data<A>()[row * M + a.indices_BHNJ.data<std::int32_t>()[list * J + s]];
        caught += a.weight_BHR.data<A>()[row] * mass;
        total += a.weight_BHR.data<A>()[row];
      }
    a.caught_H.data<A>()[h] = caught;
    a.total_H.data<A>()[h] = total;
  }
}

}  // namespace

void ListStatistics::reference(const Arguments& a, ExecutionContext&) {
  const std::int64_t H = a.grid.heads, N = a.grid.groups(), J = columns_of(a.indices_BHNJ);
  for (const Tensor& sums : {a.pairs_H, a.blocks_H, a.forced_H}) sums.zero();
  for (std::int64_t row = 0; row < a.grid.batch * H * N; ++row) {
    const std::int64_t b = row / (H * N), h = row / N % H, n = row % N;
    for (std::int64_t s = 0; s < a.counts_BHN.data<std::int32_t>()[row]; ++s) {
      const std::int64_t m = a.indices_BHNJ.data<std::int32_t>()[row * J + s];
      a.pairs_H.data<std::int64_t>()[h] += pairs_of(a.grid, b, n, m);
      a.blocks_H.data<std::int64_t>()[h] += 1;
      a.forced_H.data<std::int64_t>()[h] += group_blocks(a.grid, b, n).is_forced(m);
    }
  }
}

void GateRecall::reference(const Arguments& a, ExecutionContext&) {
  a.teacher_BHRM.dtype() == DType::f64 ? recall<double>(a) : recall<float>(a);
}

}  // namespace filigree
