#include <cmath>

#include "kernels/gate/head_gate.hpp"
#include "kernels/gate/list_check.hpp"

namespace filigree {
namespace {

// Calls visit(b, n, row of s) for every group of every sequence.
template <class Visit>
void for_each_group(const BlockGrid& grid, const Visit& visit) {
  for (std::int64_t b = 0; b < grid.batch; ++b)
    for (std::int64_t n = 0; n < grid.groups(); ++n) visit(b, n, b * grid.groups() + n);
}

// Calls visit(group's row of s, head, element of o) for every element of o; scaled heads only.
template <class Visit>
void for_each_scaled(const BlockGrid& grid, const Tensor& o, const Tensor& dense_heads,
                     const Visit& visit) {
  const std::int64_t H = grid.heads, K = o.dim(1) / H;
  for_each_group(grid, [&](auto b, auto n, auto row) {
    const BlockRange rows = rows_of_group(grid, b, n);
    for (std::int64_t t = rows.begin; t < rows.end; ++t)
      for (std::int64_t h = 0; h < H; ++h)
        for (std::int64_t d = 0; is_head_gated(grid, dense_heads, b, h, n) && d < K; ++d)
          visit(row * H + h, (t * H + h) * K + d);
  });
}

}  // namespace

void FinishedKeyMean::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.kbar_MC.dtype(), [&](auto type) {
    using T = decltype(type);
    const std::int64_t C = a.kbar_MC.dim(1), M = a.grid.key_blocks();
    for_each_group(a.grid, [&](auto b, auto n, auto row) {
      const BlockRange candidates = group_blocks(a.grid, b, n).candidates;
      for (std::int64_t c = 0; c < C; ++c) {
        Accumulator<T> sum = 0;
        for (std::int64_t m = candidates.begin; m < candidates.end; ++m)
          sum += widened(a.kbar_MC.data<T>()[(b * M + m) * C + c]);
        const auto count =
            static_cast<Accumulator<T>>(std::max<std::int64_t>(1, candidates.size()));
        a.y_NC.data<T>()[row * C + c] = rounded<T>(sum / count);
      }
    });
  });
}

void FinishedKeyMeanBackward::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.dkbar_MC.dtype(), [&](auto type) {
    using T = decltype(type);
    const std::int64_t C = a.dkbar_MC.dim(1), M = a.grid.key_blocks(), N = a.grid.groups();
    for (std::int64_t i = 0; i < a.grid.batch * M * C; ++i) {
      const std::int64_t b = i / (M * C), m = i / C % M, c = i % C;
      Accumulator<T> sum = 0;
      for (std::int64_t n = 0; n < N; ++n) {
        const BlockRange candidates = group_blocks(a.grid, b, n).candidates;
        if (candidates.contains(m))
          sum += widened(a.dy_NC.data<T>()[(b * N + n) * C + c]) /
                 static_cast<Accumulator<T>>(candidates.size());
      }
      a.dkbar_MC.data<T>()[i] = rounded<T>(sum);
    }
  });
}

void HeadGateForward::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.a_NH.dtype(), [&](auto type) {
    using T = decltype(type);
    using A = Accumulator<T>;
    for (std::int64_t i = 0; i < a.a_NH.numel(); ++i) {
      const A logit = widened(a.a_NH.data<T>()[i]) + widened(a.b_NH.data<T>()[i]);
      a.s_NH.data<A>()[i] = A{1} / (A{1} + std::exp(-logit));
    }
  });
}

void HeadGateBackward::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.d_NH.dtype(), [&](auto type) {
    using T = decltype(type);
    using A = Accumulator<T>;
    for (std::int64_t i = 0; i < a.d_NH.numel(); ++i) {
      const A s = a.s_NH.data<A>()[i];
      a.d_NH.data<T>()[i] = rounded<T>(a.ds_NH.data<A>()[i] * s * (A{1} - s));
    }
  });
}

void ScaleHeads::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.o_THK.dtype(), [&](auto type) {
    using T = decltype(type);
    using A = Accumulator<T>;
    a.y_THK.copy_from(a.o_THK);
    for_each_scaled(a.grid, a.o_THK, a.dense_heads_H, [&](auto score, auto i) {
      a.y_THK.data<T>()[i] = rounded<T>(a.s_NH.data<A>()[score] * widened(a.o_THK.data<T>()[i]));
    });
  });
}

void ScaleHeadsBackward::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.o_THK.dtype(), [&](auto type) {
    using T = decltype(type);
    using A = Accumulator<T>;
    a.do_THK.copy_from(a.dy_THK);
    a.ds_NH.zero();
    for_each_scaled(a.grid, a.o_THK, a.dense_heads_H, [&](auto score, auto i) {
      const A dy = widened(a.dy_THK.data<T>()[i]);
      a.do_THK.data<T>()[i] = rounded<T>(a.s_NH.data<A>()[score] * dy);
      a.ds_NH.data<A>()[score] += dy * widened(a.o_THK.data<T>()[i]);
    });
  });
}

}  // namespace filigree
