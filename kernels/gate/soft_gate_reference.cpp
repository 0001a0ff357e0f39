#include "kernels/gate/list_check.hpp"
#include "kernels/gate/soft_gate.hpp"

namespace filigree {
namespace {

// The list of one group, its scores, and the slot of the largest of them.
template <class A>
struct Row {
  std::int64_t row, count, best = -1;
  const std::int32_t* indices;
  const A* z;
  BlockRange candidates;
  bool dense;

  template <class Arguments>
  Row(const Arguments& a, std::int64_t row) : row(row) {
    const std::int64_t N = a.grid.groups(), H = a.grid.heads;
    count = a.counts_BHN.template data<std::int32_t>()[row];
    indices = a.indices_BHNJ.template data<std::int32_t>() + row * columns_of(a.indices_BHNJ);
    z = a.z_BHNM.template data<A>() + row * a.grid.key_blocks();
    candidates = group_blocks(a.grid, row / (H * N), row % N).candidates;
    dense = is_dense_head(a.dense_heads_H, row / N % H);
    for (std::int64_t s = 0; s < count; ++s)
      if (has_score(s) && (best < 0 || z[indices[s]] > z[indices[best]])) best = s;
  }
  bool has_score(std::int64_t s) const {
    return !dense && s < count && candidates.contains(indices[s]);
  }
};

template <class A>
void forward(const SoftGateBias::Arguments& a) {
  const std::int64_t J = columns_of(a.indices_BHNJ);
  for (std::int64_t i = 0; i < list_rows(a.grid); ++i) {
    const Row<A> row(a, i);
    for (std::int64_t s = 0; s < J; ++s)
      a.bias_BHNJ.data<A>()[i * J + s] =
          row.has_score(s)
              ? static_cast<A>(a.strength) * (row.z[row.indices[s]] - row.z[row.indices[row.best]])
              : A{0};
  }
}

template <class A>
void backward(const SoftGateBiasBackward::Arguments& a) {
  const std::int64_t J = columns_of(a.indices_BHNJ), M = a.grid.key_blocks();
  if (!a.accumulate) a.dz_BHNM.zero();
  for (std::int64_t i = 0; i < list_rows(a.grid); ++i) {
    const Row<A> row(a, i);
    if (row.best < 0) continue;
    const A* dbias = a.dbias_BHNJ.data<A>() + i * J;
    A* dz = a.dz_BHNM.data<A>() + i * M;
    A others = 0;  // the best slot's own term cancels
    for (std::int64_t s = 0; s < row.count; ++s)
      if (row.has_score(s) && s != row.best) others += dbias[s];
    for (std::int64_t s = 0; s < row.count; ++s)
      if (row.has_score(s))
        dz[row.indices[s]] += static_cast<A>(a.strength) * (s == row.best ? -others : dbias[s]);
  }
}

}  // namespace

void SoftGateBias::reference(const Arguments& a, ExecutionContext&) {
  a.z_BHNM.dtype() == DType::f64 ? forward<double>(a) : forward<float>(a);
}

void SoftGateBiasBackward::reference(const Arguments& a, ExecutionContext&) {
  a.z_BHNM.dtype() == DType::f64 ? backward<double>(a) : backward<float>(a);
}

}  // namespace filigree
