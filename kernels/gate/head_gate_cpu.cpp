#include <algorithm>

#include "kernels/elementwise/vector_math.hpp"
#include "kernels/gate/head_gate.hpp"
#include "kernels/gate/list_check.hpp"

namespace filigree {
namespace {

constexpr std::int64_t kColumns = 64;  // columns of a task

// body(sequence, first column, columns) for runs of columns of rows of C.
template <class Body>
void for_each_run(const ExecutionContext& context, const BlockGrid& grid, std::int64_t C,
                  const Body& body) {
  const std::int64_t runs = (C + kColumns - 1) / kColumns;
  for_each_chunk(context, grid.batch * runs, 1, (grid.groups() + grid.key_blocks()) * kColumns,
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t i = begin; i < end; ++i) {
                     const std::int64_t first = i % runs * kColumns;
                     body(i / runs, first, std::min(kColumns, C - first));
                   }
                 });
}

// A running sum: the candidates of a document's groups begin at one block and only grow.
template <class T>
void running_mean(const FinishedKeyMean::Arguments& a, std::int64_t b, std::int64_t first,
                  std::int64_t columns) {
  using A = Accumulator<T>;
  const std::int64_t C = a.kbar_MC.dim(1), M = a.grid.key_blocks(), N = a.grid.groups();
  A sums[kColumns] = {};
  A* const sum = sums;
  BlockRange added;
  for (std::int64_t n = 0; n < N; ++n) {
    const BlockRange candidates = group_blocks(a.grid, b, n).candidates;
    if (n == 0 || candidates.begin != added.begin) {
      std::fill_n(sum, kColumns, A{0});
      added = {candidates.begin, candidates.begin};
    }
    for (; added.end < candidates.end; ++added.end) {
      const T* const row = a.kbar_MC.data<T>() + (b * M + added.end) * C + first;
      vector_loop(0, columns, [=](std::int64_t c) { sum[c] += widened(row[c]); });
    }
    const A count = static_cast<A>(std::max<std::int64_t>(1, candidates.size()));
    T* const y = a.y_NC.data<T>() + (b * N + n) * C + first;
    vector_loop(0, columns, [=](std::int64_t c) { y[c] = T(sum[c] / count); });
  }
}

// The same backwards: what the last groups give reaches all of their candidates, so a sum over the
// groups grows from the last block of a document to its first.
template <class T>
void running_gradient(const FinishedKeyMeanBackward::Arguments& a, std::int64_t b,
                      std::int64_t first, std::int64_t columns) {
  using A = Accumulator<T>;
  const std::int64_t C = a.dkbar_MC.dim(1), M = a.grid.key_blocks(), N = a.grid.groups();
  A sums[kColumns] = {};
  A* const sum = sums;
  const auto store = [&](std::int64_t m) {
    T* const dkbar = a.dkbar_MC.data<T>() + (b * M + m) * C + first;
    vector_loop(0, columns, [=](std::int64_t c) { dkbar[c] = T(sum[c]); });
  };
  std::int64_t m = M - 1;
  BlockRange last;
  for (std::int64_t n = N - 1; n >= 0; --n) {
    const BlockRange candidates = group_blocks(a.grid, b, n).candidates;
    if (candidates.size() == 0) continue;
    if (candidates.begin != last.begin || last.size() == 0) {  // an earlier document's
      for (; last.size() > 0 && m >= last.begin; --m) store(m);
      std::fill_n(sum, kColumns, A{0});
    }
    for (; m >= candidates.end; --m) store(m);
    last = candidates;
    const A count = static_cast<A>(candidates.size());
    const T* const dy = a.dy_NC.data<T>() + (b * N + n) * C + first;
    vector_loop(0, columns, [=](std::int64_t c) { sum[c] += widened(dy[c]) / count; });
  }
  for (; m >= last.begin; --m) store(m);
  std::fill_n(sum, kColumns, A{0});
  for (; m >= 0; --m) store(m);
}

// body(row of s, first row of o, end) for every group.
template <class Body>
void for_each_group(const ExecutionContext& context, const BlockGrid& grid, std::int64_t columns,
                    const Body& body) {
  const std::int64_t N = grid.groups(), elements = grid.query_block * columns;
  for_each_chunk(context, grid.batch * N, rows_per_chunk(elements), elements,
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t i = begin; i < end; ++i)
                     body(i, rows_of_group(grid, i / N, i % N));
                 });
}

template <class T>
double dot(const T* x, const T* y, std::int64_t count) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t d = 0; d < count; ++d)
    sum += static_cast<double>(widened(x[d])) * static_cast<double>(widened(y[d]));
  return sum;
}

// Per head of one group: what it is multiplied by, 1 where the gate has no say.
template <class A>
void head_factors(const BlockGrid& grid, const Tensor& s, const Tensor& dense_heads,
                  std::int64_t row, A* factors) {
  for (std::int64_t h = 0; h < grid.heads; ++h)
    factors[h] = is_head_gated(grid, dense_heads, row / grid.groups(), h, row % grid.groups())
                     ? s.data<A>()[row * grid.heads + h]
                     : A{1};
}

// Tokens outside, heads inside: rows are read and written as they lie in memory.
template <class T>
void scale_forward(const ScaleHeads::Arguments& a, const ExecutionContext& context) {
  using A = Accumulator<T>;
  const std::int64_t H = a.grid.heads, K = a.o_THK.dim(1) / H;
  const Tensor scratch = context.empty(a.s_NH.shape(), dtype_of<A>);
  const T* const o = a.o_THK.data<T>();
  T* const y = a.y_THK.data<T>();
  for_each_group(context, a.grid, H * K, [&](std::int64_t row, BlockRange rows) {
    A* const factors = scratch.data<A>() + row * H;
    head_factors(a.grid, a.s_NH, a.dense_heads_H, row, factors);
    for (std::int64_t i = rows.begin * H; i < rows.end * H; ++i) {
      const A factor = factors[i % H];
      vector_loop(i * K, (i + 1) * K, [=](std::int64_t d) { y[d] = T(factor * widened(o[d])); });
    }
  });
}

template <class T>
void scale_backward(const ScaleHeadsBackward::Arguments& a, const ExecutionContext& context) {
  using A = Accumulator<T>;
  const std::int64_t H = a.grid.heads, K = a.o_THK.dim(1) / H, N = a.grid.groups();
  const Tensor factor_scratch = context.empty(a.s_NH.shape(), dtype_of<A>);
  const Tensor sum_scratch = context.empty(a.s_NH.shape(), DType::f64);
  const T *const o = a.o_THK.data<T>(), *const dy = a.dy_THK.data<T>();
  T* const d_o = a.do_THK.data<T>();
  A* const ds = a.ds_NH.data<A>();
  for_each_group(context, a.grid, H * K, [&](std::int64_t row, BlockRange rows) {
    A* const factors = factor_scratch.data<A>() + row * H;
    head_factors(a.grid, a.s_NH, a.dense_heads_H, row, factors);
    double* const sums = sum_scratch.data<double>() + row * H;  // of many terms of either sign
    std::fill_n(sums, H, 0.0);
    for (std::int64_t i = rows.begin * H; i < rows.end * H; ++i) {
      const A factor = factors[i % H];
      vector_loop(i * K, (i + 1) * K, [=](std::int64_t d) { d_o[d] = T(factor * widened(dy[d])); });
      sums[i % H] += dot(dy + i * K, o + i * K, K);
    }
    for (std::int64_t h = 0; h < H; ++h)
      ds[row * H + h] = is_head_gated(a.grid, a.dense_heads_H, row / N, h, row % N)
                            ? static_cast<A>(sums[h])
                            : A{0};
  });
}

}  // namespace

void FinishedKeyMean::cpu(const Arguments& a, ExecutionContext& context) {
  visit_floating(a.kbar_MC.dtype(), [&](auto type) {
    for_each_run(context, a.grid, a.kbar_MC.dim(1), [&](auto b, auto first, auto columns) {
      running_mean<decltype(type)>(a, b, first, columns);
    });
  });
}

void FinishedKeyMeanBackward::cpu(const Arguments& a, ExecutionContext& context) {
  visit_floating(a.dkbar_MC.dtype(), [&](auto type) {
    for_each_run(context, a.grid, a.dkbar_MC.dim(1), [&](auto b, auto first, auto columns) {
      running_gradient<decltype(type)>(a, b, first, columns);
    });
  });
}

void HeadGateForward::cpu(const Arguments& arguments, ExecutionContext& context) {
  visit_floating(arguments.a_NH.dtype(), [&](auto type) {
    using T = decltype(type);
    using A = Accumulator<T>;
    const T *a = arguments.a_NH.data<T>(), *b = arguments.b_NH.data<T>();
    A* const s = arguments.s_NH.data<A>();
    for_each_chunk(context, arguments.s_NH.numel(), kChunkElements, 1, [=](auto begin, auto end) {
      exp_loop<A>(begin, end, [=](std::int64_t i) {
        s[i] = A{1} / (A{1} + vector_exp(-(widened(a[i]) + widened(b[i]))));
      });
    });
  });
}

void HeadGateBackward::cpu(const Arguments& a, ExecutionContext& context) {
  visit_floating(a.d_NH.dtype(), [&](auto type) {
    using T = decltype(type);
    using A = Accumulator<T>;
    const A *s = a.s_NH.data<A>(), *ds = a.ds_NH.data<A>();
    T* const to = a.d_NH.data<T>();
    for_each_chunk(context, a.d_NH.numel(), kChunkElements, 1, [=](auto begin, auto end) {
      vector_loop(begin, end, [=](std::int64_t i) { to[i] = T(ds[i] * s[i] * (A{1} - s[i])); });
    });
  });
}

void ScaleHeads::cpu(const Arguments& a, ExecutionContext& context) {
  visit_floating(a.o_THK.dtype(), [&](auto type) { scale_forward<decltype(type)>(a, context); });
}

void ScaleHeadsBackward::cpu(const Arguments& a, ExecutionContext& context) {
  visit_floating(a.o_THK.dtype(), [&](auto type) { scale_backward<decltype(type)>(a, context); });
}

}  // namespace filigree
