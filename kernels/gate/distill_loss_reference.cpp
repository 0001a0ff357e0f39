#include <cmath>
#include <limits>

#include "kernels/gate/distill_loss.hpp"
#include "kernels/gate/list_check.hpp"

namespace filigree {
namespace {

// Row `row` of the teacher beside the scores of its group.
template <class A>
struct Row {
  const A *p, *z;
  std::int64_t z_offset;
  BlockRange candidates;
  A weight, lse;

  template <class Arguments>
  Row(const Arguments& a, std::int64_t row) {
    const std::int64_t R = a.groups_R.numel(), N = a.grid.groups(), M = a.grid.key_blocks();
    const std::int64_t bh = row / R, n = a.groups_R.template data<std::int32_t>()[row % R];
    z_offset = (bh * N + n) * M;
    p = a.teacher_BHRM.template data<A>() + row * M;
    z = a.z_BHNM.template data<A>() + z_offset;
    weight = a.weight_BHR.template data<A>()[row];
    candidates = group_blocks(a.grid, bh / a.grid.heads, n).candidates;
    A top = -std::numeric_limits<A>::infinity(), sum = 0;
    for (std::int64_t m = candidates.begin; m < candidates.end; ++m) top = std::max(top, z[m]);
    for (std::int64_t m = candidates.begin; m < candidates.end; ++m) sum += std::exp(z[m] - top);
    lse = top + std::log(sum);
  }
};

template <class A>
void loss(const DistillLoss::Arguments& a) {
  A sum = 0, total = 0;
  for (std::int64_t i = 0; i < a.weight_BHR.numel(); ++i) {
    const Row<A> row(a, i);
    if (row.weight == 0) continue;
    A divergence = 0;
    for (std::int64_t m = row.candidates.begin; m < row.candidates.end; ++m)
      if (row.p[m] > 0) divergence += row.p[m] * (std::log(row.p[m]) - (row.z[m] - row.lse));
    sum += row.weight * divergence;
    total += row.weight;
  }
  a.loss.data<A>()[0] = total > 0 ? sum / total : A{0};
  a.total.data<A>()[0] = total;
}

template <class A>
void gradient(const DistillLossGradient::Arguments& a) {
  if (!a.accumulate) a.dz_BHNM.zero();
  const A total = a.total.data<A>()[0];
  if (!(total > 0)) return;
  for (std::int64_t i = 0; i < a.weight_BHR.numel(); ++i) {
    const Row<A> row(a, i);
    if (row.weight == 0) continue;
    const A scale = a.dloss.data<A>()[0] * row.weight / total;
    for (std::int64_t m = row.candidates.begin; m < row.candidates.end; ++m)
      a.dz_BHNM.data<A>()[row.z_offset + m] += scale * (std::exp(row.z[m] - row.lse) - row.p[m]);
  }
}

}  // namespace

void DistillLoss::reference(const Arguments& a, ExecutionContext&) {
  a.z_BHNM.dtype() == DType::f64 ? loss<double>(a) : loss<float>(a);
}

void DistillLossGradient::reference(const Arguments& a, ExecutionContext&) {
  a.z_BHNM.dtype() == DType::f64 ? gradient<double>(a) : gradient<float>(a);
}

}  // namespace filigree
