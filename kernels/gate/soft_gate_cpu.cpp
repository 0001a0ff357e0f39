#include <algorithm>

#include "kernels/elementwise/loops.hpp"
#include "kernels/gate/list_check.hpp"
#include "kernels/gate/soft_gate.hpp"

namespace filigree {
namespace {

// Listed candidates lie side by side, since lists ascend: slots [begin, end). best: the slot of the
// first largest score.
struct Scored {
  std::int64_t begin = 0, end = 0, best = 0;
};

template <class Arguments, class A>
Scored scored_slots(const Arguments& a, std::int64_t row, const A* z, const std::int32_t* indices) {
  const std::int64_t N = a.grid.groups(), H = a.grid.heads;
  if (is_dense_head(a.dense_heads_H, row / N % H)) return {};
  const std::int64_t count = a.counts_BHN.template data<std::int32_t>()[row];
  const BlockRange candidates = group_blocks(a.grid, row / (H * N), row % N).candidates;
  const auto slot_of = [&](std::int64_t m) {
    return std::lower_bound(indices, indices + count, m) - indices;
  };
  Scored scored{slot_of(candidates.begin), slot_of(candidates.end), 0};
  scored.best = scored.begin;
  for (std::int64_t s = scored.begin + 1; s < scored.end; ++s)
    if (z[indices[s]] > z[indices[scored.best]]) scored.best = s;
  return scored;
}

template <class A>
void forward(const SoftGateBias::Arguments& a, const ExecutionContext& context) {
  const std::int64_t J = columns_of(a.indices_BHNJ), M = a.grid.key_blocks();
  const auto rows = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const A* const z = a.z_BHNM.data<A>() + row * M;
      const auto* const indices = a.indices_BHNJ.data<std::int32_t>() + row * J;
      A* const bias = a.bias_BHNJ.data<A>() + row * J;
      const Scored scored = scored_slots(a, row, z, indices);
      std::fill(bias, bias + J, A{0});
      if (scored.begin == scored.end) continue;
      const A largest = z[indices[scored.best]], strength = static_cast<A>(a.strength);
      vector_loop(scored.begin, scored.end,
                  [=](std::int64_t s) { bias[s] = strength * (z[indices[s]] - largest); });
    }
  };
  for_each_chunk(context, list_rows(a.grid), rows_per_chunk(J), J, rows);
}

template <class A>
void backward(const SoftGateBiasBackward::Arguments& a, const ExecutionContext& context) {
  const std::int64_t J = columns_of(a.indices_BHNJ), M = a.grid.key_blocks();
  const auto rows = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const A* const z = a.z_BHNM.data<A>() + row * M;
      const auto* const indices = a.indices_BHNJ.data<std::int32_t>() + row * J;
      const A* const dbias = a.dbias_BHNJ.data<A>() + row * J;
      A* const dz = a.dz_BHNM.data<A>() + row * M;
      const Scored scored = scored_slots(a, row, z, indices);
      if (!a.accumulate) std::fill(dz, dz + M, A{0});
      if (scored.begin == scored.end) continue;
      const A strength = static_cast<A>(a.strength);
      A others = 0;  // the sum over all slots but the best one, whose own term cancels
      for (std::int64_t s = scored.begin; s < scored.end; ++s)
        if (s != scored.best) {
          others += dbias[s];
          dz[indices[s]] += strength * dbias[s];
        }
      dz[indices[scored.best]] -= strength * others;
    }
  };
  for_each_chunk(context, list_rows(a.grid), rows_per_chunk(M), M, rows);
}

}  // namespace

void SoftGateBias::cpu(const Arguments& a, ExecutionContext& context) {
  a.z_BHNM.dtype() == DType::f64 ? forward<double>(a, context) : forward<float>(a, context);
}

void SoftGateBiasBackward::cpu(const Arguments& a, ExecutionContext& context) {
  a.z_BHNM.dtype() == DType::f64 ? backward<double>(a, context) : backward<float>(a, context);
}

}  // namespace filigree
