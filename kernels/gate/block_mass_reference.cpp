#include <cmath>
#include <limits>
#include <vector>

#include "kernels/gate/block_mass.hpp"
#include "kernels/gate/list_check.hpp"

namespace filigree {
namespace {

// s[j] for the keys that one query sees.
template <class T>
std::vector<Accumulator<T>> logits(const BlockMassTeacher::Arguments& a, std::int64_t b,
                                   std::int64_t h, std::int64_t position, BlockRange keys) {
  using A = Accumulator<T>;
  const std::int64_t K = a.q_THK.dim(1) / a.grid.heads;
  const std::int64_t row = b * a.grid.query_length + position - a.grid.query_offset;
  const T* q = a.q_THK.data<T>() + row * a.q_THK.dim(1) + h * K;
  std::vector<A> s;
  for (std::int64_t j = keys.begin; j < keys.end; ++j) {
    const T* k = a.k_TGK.data<T>() + (b * a.grid.key_length + j) * a.k_TGK.dim(1) +
                 h / (a.grid.heads / a.kv_heads) * K;
    A sum = 0;
    for (std::int64_t d = 0; d < K; ++d) sum += widened(q[d]) * widened(k[d]);
    s.push_back(static_cast<A>(a.scale) * sum);
  }
  return s;
}

template <class T>
void group(const BlockMassTeacher::Arguments& a, std::int64_t b, std::int64_t h, std::int64_t n,
           std::int64_t row) {
  using A = Accumulator<T>;
  const std::int64_t M = a.grid.key_blocks();
  A* g = a.teacher_BHRM.data<A>() + row * M;
  std::fill(g, g + M, A{0});
  const std::int64_t begin = std::max(a.grid.query_offset, a.grid.first_position(n));
  A largest = -std::numeric_limits<A>::infinity(), entropies = 0;
  for (std::int64_t i = begin; i < a.grid.end_position(n); ++i) {
    const BlockRange keys = visible_key_range(a.grid, b, i);
    const std::vector<A> s = logits<T>(a, b, h, i, keys);
    A top = -std::numeric_limits<A>::infinity(), sum = 0, below = 0;
    for (const A value : s) top = std::max(top, value);
    for (const A value : s) sum += std::exp(value - top);
    for (std::int64_t j = keys.begin; j < keys.end; ++j) {
      const A shift = s[j - keys.begin] - top, p = std::exp(shift) / sum;
      A& at = g[j / a.grid.key_block];
      at = a.statistic == BlockStatistic::maximum ? std::max(at, p) : at + p;
      below += p * shift;
    }
    // log p = shift - log(sum)
    const A entropy = std::log(sum) - below;
    if (keys.size() > 1) entropies += entropy / std::log(static_cast<A>(keys.size()));
    largest = std::max(largest, top);
  }
  const A queries = static_cast<A>(a.grid.end_position(n) - begin);
  if (a.entropy_BHR.defined()) a.entropy_BHR.data<A>()[row] = entropies / queries;
  if (a.largest_BHR.defined()) a.largest_BHR.data<A>()[row] = largest;
  a.weight_BHR.data<A>()[row] = normalise_teacher(group_blocks(a.grid, b, n).candidates, M,
                                                  is_dense_head(a.dense_heads_H, h), g);
}

}  // namespace

void BlockMassTeacher::reference(const Arguments& a, ExecutionContext&) {
  const std::int64_t R = a.groups_R.numel(), H = a.grid.heads;
  visit_floating(a.q_THK.dtype(), [&](auto type) {
    for (std::int64_t row = 0; row < a.grid.batch * H * R; ++row)
      group<decltype(type)>(a, row / (H * R), row / R % H, a.groups_R.data<std::int32_t>()[row % R],
                            row);
  });
}

}  // namespace filigree
