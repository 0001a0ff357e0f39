#include <algorithm>
#include <cmath>

#include "kernels/elementwise/vector_math.hpp"
#include "kernels/gate/distill_loss.hpp"
#include "kernels/gate/list_check.hpp"

namespace filigree {
namespace {

// Row `row` of the teacher beside the scores of its group; pointers start at the first candidate.
template <class A>
struct Row {
  const A *p, *z;
  std::int64_t count, z_offset;
  A weight;

  template <class Arguments>
  Row(const Arguments& a, std::int64_t row) {
    const std::int64_t R = a.groups_R.numel(), N = a.grid.groups(), M = a.grid.key_blocks();
    const std::int64_t bh = row / R, n = a.groups_R.template data<std::int32_t>()[row % R];
    const BlockRange candidates = group_blocks(a.grid, bh / a.grid.heads, n).candidates;
    count = candidates.size();
    z_offset = (bh * N + n) * M + candidates.begin;
    p = a.teacher_BHRM.template data<A>() + row * M + candidates.begin;
    z = a.z_BHNM.template data<A>() + z_offset;
    weight = a.weight_BHR.template data<A>()[row];
  }
  // log sum_m exp(z[m]); count > 0. buffer[m] = exp(z[m] - largest).
  A log_sum(A* buffer) const {
    const A largest = *std::max_element(z, z + count);
    const A* const from = z;
    exp_loop<A>(0, count, [=](std::int64_t m) { buffer[m] = vector_exp(from[m] - largest); });
    A sum = 0;
    for (std::int64_t m = 0; m < count; ++m) sum += buffer[m];
    return largest + std::log(sum);
  }
};

// body(row, buffer of M elements) for the rows of a task, whatever the thread.
template <class A, class Body>
void for_each_row(const ExecutionContext& context, std::int64_t rows, std::int64_t M,
                  const Body& body) {
  const std::int64_t chunk = rows_per_chunk(M);
  const std::int64_t tasks = (rows + chunk - 1) / chunk;
  const int threads = rows * M < kParallelElements ? 1 : std::max(1, context.num_threads);
  const Tensor buffers = context.empty({threads, M}, dtype_of<A>);
  parallel_for(tasks, threads, [&](std::int64_t task, int thread) {
    for (std::int64_t row = task * chunk; row < std::min(rows, (task + 1) * chunk); ++row)
      body(row, buffers.data<A>() + thread * M);
  });
}

// Rows are summed up in f64, in ascending order.
template <class A>
void loss(const DistillLoss::Arguments& a, const ExecutionContext& context) {
  const std::int64_t rows = a.weight_BHR.numel();
  const Tensor divergences = context.empty({rows}, dtype_of<A>);
  A* const divergence = divergences.data<A>();
  for_each_row<A>(context, rows, a.grid.key_blocks(), [&](std::int64_t index, A* buffer) {
    const Row<A> row(a, index);
    divergence[index] = 0;
    if (row.weight == 0 || row.count == 0) return;
    const A lse = row.log_sum(buffer);
    A sum = 0;
    for (std::int64_t m = 0; m < row.count; ++m)
      if (row.p[m] > 0) sum += row.p[m] * (std::log(row.p[m]) - (row.z[m] - lse));
    divergence[index] = sum;
  });
  double sum = 0, total = 0;
  const A* const weight = a.weight_BHR.data<A>();
  for (std::int64_t i = 0; i < rows; ++i) {
    sum += static_cast<double>(weight[i]) * static_cast<double>(divergence[i]);
    total += static_cast<double>(weight[i]);
  }
  a.loss.data<A>()[0] = static_cast<A>(total > 0 ? sum / total : 0.0);
  a.total.data<A>()[0] = static_cast<A>(total);
}

template <class A>
void gradient(const DistillLossGradient::Arguments& a, const ExecutionContext& context) {
  A* const all = a.dz_BHNM.data<A>();
  if (!a.accumulate)
    for_each_chunk(
        context, a.dz_BHNM.numel(), kChunkElements, 1,
        [=](std::int64_t begin, std::int64_t end) { std::fill(all + begin, all + end, A{0}); });
  const A total = a.total.data<A>()[0], dloss = a.dloss.data<A>()[0];
  if (!(total > 0)) return;
  const std::int64_t rows = a.weight_BHR.numel();
  for_each_row<A>(context, rows, a.grid.key_blocks(), [&](std::int64_t index, A* buffer) {
    const Row<A> row(a, index);
    if (row.weight == 0 || row.count == 0) return;
    const A lse = row.log_sum(buffer), scale = dloss * row.weight / total;
    const A *const p = row.p, *const z = row.z;
    A* const dz = all + row.z_offset;
    exp_loop<A>(0, row.count,
                [=](std::int64_t m) { dz[m] += scale * (vector_exp(z[m] - lse) - p[m]); });
  });
}

}  // namespace

void DistillLoss::cpu(const Arguments& a, ExecutionContext& context) {
  a.z_BHNM.dtype() == DType::f64 ? loss<double>(a, context) : loss<float>(a, context);
}

void DistillLossGradient::cpu(const Arguments& a, ExecutionContext& context) {
  a.z_BHNM.dtype() == DType::f64 ? gradient<double>(a, context) : gradient<float>(a, context);
}

}  // namespace filigree
