#include <algorithm>
#include <limits>

#include "kernels/gate/gate_scores.hpp"
#include "kernels/gate/operands.hpp"

namespace filigree {
namespace {

constexpr std::int64_t kGroups = 96;  // groups of a tile, a multiple of register blocks
constexpr std::int64_t kBlocks = 64;  // key blocks of a tile of dkg

struct Sizes {
  std::int64_t B, H, N, M, E;
  template <class Arguments>
  explicit Sizes(const Arguments& a)
      : B(a.grid.batch),
        H(a.grid.heads),
        N(a.grid.groups()),
        M(a.grid.key_blocks()),
        E(a.qg_NHE.dim(1) / H) {}
};

// Head h of the `rows` rows of sequence b.
template <class T>
HeadRows<T> rows_of_sequence(const Tensor& tensor, std::int64_t b, std::int64_t rows,
                             std::int64_t h, std::int64_t width) {
  HeadRows<T> head = head_rows<T>(tensor, h, width);
  head.data += b * rows * head.stride;
  return head;
}

// The candidates of the tile's groups lie before this block: positions ascend.
std::int64_t candidate_end(const BlockGrid& grid, std::int64_t b, std::int64_t group_end) {
  return group_blocks(grid, b, group_end - 1).candidates.end;
}

template <class T>
void forward(const GateScores::Arguments& a, const ExecutionContext& context) {
  using A = Accumulator<T>;
  const Sizes s(a);
  const std::int64_t lanes = padded_to_lanes<A>(s.M), tiles = (s.N + kGroups - 1) / kGroups;
  const int threads = threads_for(context, 2 * s.B * s.H * s.N * s.M * s.E);
  const Tensor packed = context.empty({s.B * s.H, s.E, lanes}, dtype_of<A>);
  const Scratch<A> scratch(context, threads, kGroups * (lanes + padded_to_lanes<A>(s.E)));
  parallel_for(s.B * s.H, threads, [&](std::int64_t bh, int) {
    const auto kg = rows_of_sequence<const T>(a.kg_MHE, bh / s.H, s.M, bh % s.H, s.E);
    pack_transposed<A, T>(kg, s.M, s.E, packed.data<A>() + bh * s.E * lanes, lanes);
  });
  parallel_for(s.B * s.H * tiles, threads, [&](std::int64_t task, int thread) {
    const std::int64_t bh = task / tiles, b = bh / s.H;
    const std::int64_t begin = task % tiles * kGroups, count = std::min(kGroups, s.N - begin);
    Pieces<A> pieces(scratch.of(thread));
    A* const sums = pieces.take(kGroups * lanes);
    const auto qg = rows_of_sequence<const T>(a.qg_NHE, b, s.N, bh % s.H, s.E);
    const auto left =
        operand<A, T>(qg, begin, count, s.E, pieces.take(kGroups * padded_to_lanes<A>(s.E)));
    const std::int64_t seen = candidate_end(a.grid, b, begin + count);
    cpu_kernels().of<A>().product({count, seen, s.E, left.data, left.stride, 1,
                                   packed.data<A>() + bh * s.E * lanes, lanes, sums, lanes, false});
    const A scale = static_cast<A>(a.scale);
    for (std::int64_t i = 0; i < count; ++i) {
      const BlockRange candidates = group_blocks(a.grid, b, begin + i).candidates;
      const A* const from = sums + i * lanes;
      A* const z = a.z_BHNM.data<A>() + (bh * s.N + begin + i) * s.M;
      std::fill(z, z + candidates.begin, -std::numeric_limits<A>::infinity());
      vector_loop(candidates.begin, candidates.end,
                  [=](std::int64_t m) { z[m] = scale * from[m]; });
      std::fill(z + candidates.end, z + s.M, -std::numeric_limits<A>::infinity());
    }
  });
}

// to[i, m - blocks.begin] = dz[n = begin + i, m] at candidates, 0 elsewhere.
template <class A>
void load_gradient(const GateScoresBackward::Arguments& a, const Sizes& s, std::int64_t bh,
                   std::int64_t begin, std::int64_t count, BlockRange blocks, A* to,
                   std::int64_t stride) {
  for (std::int64_t i = 0; i < count; ++i) {
    const BlockRange candidates = group_blocks(a.grid, bh / s.H, begin + i).candidates;
    const A* const dz = a.dz_BHNM.data<A>() + (bh * s.N + begin + i) * s.M;
    const std::int64_t first = std::clamp(candidates.begin, blocks.begin, blocks.end);
    const std::int64_t last = std::clamp(candidates.end, first, blocks.end);
    A* const row = to + i * stride - blocks.begin;
    std::fill(row + blocks.begin, row + first, A{0});
    std::copy(dz + first, dz + last, row + first);
    std::fill(row + last, row + blocks.end, A{0});
  }
}

template <class T>
void query_gradient(const GateScoresBackward::Arguments& a, const ExecutionContext& context) {
  using A = Accumulator<T>;
  const Sizes s(a);
  const std::int64_t lanes = padded_to_lanes<A>(s.E), tiles = (s.N + kGroups - 1) / kGroups;
  const int threads = threads_for(context, 2 * s.B * s.H * s.N * s.M * s.E);
  const Scratch<A> scratch(context, threads,
                           kGroups * (lanes + padded_to_lanes<A>(s.M)) + s.M * lanes);
  parallel_for(s.B * s.H * tiles, threads, [&](std::int64_t task, int thread) {
    const std::int64_t bh = task / tiles, b = bh / s.H, h = bh % s.H;
    const std::int64_t begin = task % tiles * kGroups, count = std::min(kGroups, s.N - begin);
    const std::int64_t seen = candidate_end(a.grid, b, begin + count);
    Pieces<A> pieces(scratch.of(thread));
    A* const sums = pieces.take(kGroups * lanes);
    A* const dz = pieces.take(kGroups * padded_to_lanes<A>(s.M));
    load_gradient<A>(a, s, bh, begin, count, {0, seen}, dz, s.M);
    const auto right = view_rows<A, T>(rows_of_sequence<const T>(a.kg_MHE, b, s.M, h, s.E), 0, seen,
                                       s.E, pieces.take(s.M * lanes));
    std::fill_n(sums, count * lanes, A{0});
    cpu_kernels().of<A>().product(
        {count, s.E, seen, dz, s.M, 1, right.data, right.stride, sums, lanes, true});
    store_rows<A, T>(sums, lanes, count, s.E, static_cast<A>(a.scale),
                     rows_of_sequence<T>(a.dqg_NHE, b, s.N, h, s.E), begin, false);
  });
}

template <class T>
void key_gradient(const GateScoresBackward::Arguments& a, const ExecutionContext& context) {
  using A = Accumulator<T>;
  const Sizes s(a);
  const std::int64_t lanes = padded_to_lanes<A>(s.E), tiles = (s.M + kBlocks - 1) / kBlocks;
  const int threads = threads_for(context, 2 * s.B * s.H * s.N * s.M * s.E);
  const Scratch<A> scratch(context, threads, kGroups * (lanes + kBlocks) + kBlocks * lanes);
  parallel_for(s.B * s.H * tiles, threads, [&](std::int64_t task, int thread) {
    const std::int64_t bh = task / tiles, b = bh / s.H, h = bh % s.H;
    const std::int64_t m = task % tiles * kBlocks, blocks = std::min(kBlocks, s.M - m);
    Pieces<A> pieces(scratch.of(thread));
    A* const sums = pieces.take(kBlocks * lanes);
    A* const dz = pieces.take(kGroups * kBlocks);
    A* const buffer = pieces.take(kGroups * lanes);
    std::fill_n(sums, blocks * lanes, A{0});
    for (std::int64_t begin = 0; begin < s.N; begin += kGroups) {
      const std::int64_t count = std::min(kGroups, s.N - begin);
      if (candidate_end(a.grid, b, begin + count) <= m) continue;
      load_gradient<A>(a, s, bh, begin, count, {m, m + blocks}, dz, kBlocks);
      const auto right = view_rows<A, T>(rows_of_sequence<const T>(a.qg_NHE, b, s.N, h, s.E), begin,
                                         count, s.E, buffer);
      cpu_kernels().of<A>().product(
          {blocks, s.E, count, dz, 1, kBlocks, right.data, right.stride, sums, lanes, true});
    }
    store_rows<A, T>(sums, lanes, blocks, s.E, static_cast<A>(a.scale),
                     rows_of_sequence<T>(a.dkg_MHE, b, s.M, h, s.E), m, false);
  });
}

}  // namespace

void GateScores::cpu(const Arguments& a, ExecutionContext& context) {
  visit_floating(a.qg_NHE.dtype(), [&](auto type) { forward<decltype(type)>(a, context); });
}

void GateScoresBackward::cpu(const Arguments& a, ExecutionContext& context) {
  visit_floating(a.qg_NHE.dtype(), [&](auto type) {
    query_gradient<decltype(type)>(a, context);
    key_gradient<decltype(type)>(a, context);
  });
}

}  // namespace filigree
