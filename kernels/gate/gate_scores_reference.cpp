#include <limits>

#include "kernels/gate/gate_scores.hpp"

namespace filigree {
namespace {

template <class T>
void forward(const GateScores::Arguments& a) {
  using A = Accumulator<T>;
  const std::int64_t H = a.grid.heads, N = a.grid.groups(), M = a.grid.key_blocks();
  const std::int64_t E = a.qg_NHE.dim(1) / H;
  for (std::int64_t b = 0; b < a.grid.batch; ++b)
    for (std::int64_t h = 0; h < H; ++h)
      for (std::int64_t n = 0; n < N; ++n)
        for (std::int64_t m = 0; m < M; ++m) {
          A& z = a.z_BHNM.data<A>()[((b * H + h) * N + n) * M + m];
          z = -std::numeric_limits<A>::infinity();
          if (!group_blocks(a.grid, b, n).candidates.contains(m)) continue;
          const T* q = a.qg_NHE.data<T>() + ((b * N + n) * H + h) * E;
          const T* k = a.kg_MHE.data<T>() + ((b * M + m) * H + h) * E;
          A sum = 0;
          for (std::int64_t e = 0; e < E; ++e) sum += widened(q[e]) * widened(k[e]);
          z = static_cast<A>(a.scale) * sum;
        }
}

// The gradient of z with respect to qg is kg, and the other way round.
template <class T>
void backward(const GateScoresBackward::Arguments& a) {
  using A = Accumulator<T>;
  const std::int64_t H = a.grid.heads, N = a.grid.groups(), M = a.grid.key_blocks();
  const std::int64_t E = a.qg_NHE.dim(1) / H;
  const auto dz = [&](std::int64_t b, std::int64_t h, std::int64_t n, std::int64_t m) {
    return group_blocks(a.grid, b, n).candidates.contains(m)
               ? a.dz_BHNM.data<A>()[((b * H + h) * N + n) * M + m]
               : A{0};
  };
  for (std::int64_t b = 0; b < a.grid.batch; ++b)
    for (std::int64_t h = 0; h < H; ++h)
      for (std::int64_t e = 0; e < E; ++e) {
        const auto at_group = [&](std::int64_t n) { return ((b * N + n) * H + h) * E + e; };
        const auto at_block = [&](std::int64_t m) { return ((b * M + m) * H + h) * E + e; };
        for (std::int64_t n = 0; n < N; ++n) {
          A sum = 0;
          for (std::int64_t m = 0; m < M; ++m)
            sum += dz(b, h, n, m) * widened(a.kg_MHE.data<T>()[at_block(m)]);
          a.dqg_NHE.data<T>()[at_group(n)] = rounded<T>(static_cast<A>(a.scale) * sum);
        }
        for (std::int64_t m = 0; m < M; ++m) {
          A sum = 0;
          for (std::int64_t n = 0; n < N; ++n)
            sum += dz(b, h, n, m) * widened(a.qg_NHE.data<T>()[at_group(n)]);
          a.dkg_MHE.data<T>()[at_block(m)] = rounded<T>(static_cast<A>(a.scale) * sum);
        }
      }
}

}  // namespace

void GateScores::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.qg_NHE.dtype(), [&](auto type) { forward<decltype(type)>(a); });
}

void GateScoresBackward::reference(const Arguments& a, ExecutionContext&) {
  visit_floating(a.qg_NHE.dtype(), [&](auto type) { backward<decltype(type)>(a); });
}

}  // namespace filigree
