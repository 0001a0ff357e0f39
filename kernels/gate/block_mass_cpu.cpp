#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/elementwise/vector_math.hpp"
#include "kernels/gate/block_mass.hpp"
#include "kernels/gate/list_check.hpp"
#include "kernels/gate/operands.hpp"

namespace filigree {
namespace {

constexpr std::int64_t kQueries = 64;  // lanes of a task, where groups are not longer

// The queries of some sampled groups of one head, one in each lane, and what each found in every
// key block: the largest logit, and relative to it sum_j exp(s - max) and sum_j (s - max)
// exp(s - max).
template <class A>
struct Lanes {
  std::int64_t count = 0, stride;  // valid lanes; lanes
  A *q_KL, *scores_JL, *keys;      // transposed queries; one block's scores; its keys
  A *maximum_ML, *sum_ML, *moment_ML;
  A *begin_L, *end_L, *total_L, *top_L;  // keys that the query sees; exact up to 2^24 in f32
  BlockRange blocks;                     // that any query sees

  static std::int64_t elements(std::int64_t K, std::int64_t key_block, std::int64_t M,
                               std::int64_t lanes) {
    return (K + key_block + 3 * M + 4) * lanes + key_block * padded_to_lanes<A>(K);
  }
  Lanes(A* scratch, std::int64_t K, std::int64_t key_block, std::int64_t M, std::int64_t lanes)
      : stride(lanes) {
    Pieces<A> pieces(scratch);
    q_KL = pieces.take(K * lanes), scores_JL = pieces.take(key_block * lanes);
    maximum_ML = pieces.take(M * lanes), sum_ML = pieces.take(M * lanes);
    moment_ML = pieces.take(M * lanes);
    begin_L = pieces.take(lanes), end_L = pieces.take(lanes);
    total_L = pieces.take(lanes), top_L = pieces.take(lanes);
    keys = pieces.take(key_block * padded_to_lanes<A>(K));
  }
};

// The sampled groups [begin, end) of one head of one sequence.
struct Task {
  std::int64_t b, h, begin, end;
};

std::int64_t first_query(const BlockGrid& grid, std::int64_t n) {
  return std::max(grid.query_offset, grid.first_position(n));
}

template <class T, class A>
void load_queries(const BlockMassTeacher::Arguments& a, const Task& task, Lanes<A>& lanes) {
  const BlockGrid& grid = a.grid;
  const std::int64_t K = a.q_THK.dim(1) / grid.heads;
  const HeadRows<const T> q = head_rows<const T>(a.q_THK, task.h, K);
  std::fill_n(lanes.q_KL, K * lanes.stride, A{0});
  std::fill_n(lanes.begin_L, lanes.stride, A{0});
  std::fill_n(lanes.end_L, lanes.stride, A{0});  // unused lanes see nothing
  std::int64_t first_key = grid.key_length, last_key = 0;
  for (std::int64_t r = task.begin; r < task.end; ++r) {
    const std::int64_t n = a.groups_R.data<std::int32_t>()[r];
    for (std::int64_t p = first_query(grid, n); p < grid.end_position(n); ++p) {
      const std::int64_t lane = lanes.count++;
      const T* const row = q.row(task.b * grid.query_length + p - grid.query_offset);
      for (std::int64_t d = 0; d < K; ++d)
        lanes.q_KL[d * lanes.stride + lane] = static_cast<A>(row[d]);
      const BlockRange seen = visible_key_range(grid, task.b, p);
      lanes.begin_L[lane] = static_cast<A>(seen.begin);
      lanes.end_L[lane] = static_cast<A>(seen.end);
      first_key = std::min(first_key, seen.begin), last_key = std::max(last_key, seen.end);
    }
  }
  lanes.blocks = {first_key / grid.key_block, (last_key + grid.key_block - 1) / grid.key_block};
}

template <class A>
void reduce_block(const Lanes<A>& lanes, std::int64_t m, std::int64_t first_key, std::int64_t count,
                  A scale) {
  const std::int64_t L = lanes.stride;
  A* const maximum = lanes.maximum_ML + m * L;
  A* const sum = lanes.sum_ML + m * L;
  A* const moment = lanes.moment_ML + m * L;
  const A *begin = lanes.begin_L, *end = lanes.end_L;
  std::fill_n(maximum, L, -std::numeric_limits<A>::infinity());
  std::fill_n(sum, L, A{0});
  std::fill_n(moment, L, A{0});
  for (std::int64_t j = 0; j < count; ++j) {
    A* const score = lanes.scores_JL + j * L;
    const A key = static_cast<A>(first_key + j);
    vector_loop(0, L, [=](std::int64_t i) {
      const A s =
          key >= begin[i] && key < end[i] ? scale * score[i] : -std::numeric_limits<A>::infinity();
      score[i] = s;
      maximum[i] = s > maximum[i] ? s : maximum[i];
    });
  }
  for (std::int64_t j = 0; j < count; ++j) {
    const A* const score = lanes.scores_JL + j * L;
    exp_loop<A>(0, L, [=](std::int64_t i) {
      // Where the maximum is -infinity there is no key; 0 instead of it avoids inf - inf.
      const A top = maximum[i] > -std::numeric_limits<A>::max() ? maximum[i] : A{0};
      const A below = std::max(score[i] - top, -std::numeric_limits<A>::max());
      const A e = vector_exp(below);
      sum[i] += e;
      moment[i] += e > 0 ? below * e : A{0};
    });
  }
}

template <class T, class A>
void scan_blocks(const BlockMassTeacher::Arguments& a, const Task& task, const Lanes<A>& lanes) {
  const BlockGrid& grid = a.grid;
  const std::int64_t K = a.q_THK.dim(1) / grid.heads;
  HeadRows<const T> k = head_rows<const T>(a.k_TGK, task.h / (grid.heads / a.kv_heads), K);
  k.data += task.b * grid.key_length * k.stride;
  for (std::int64_t m = lanes.blocks.begin; m < lanes.blocks.end; ++m) {
    const std::int64_t first = m * grid.key_block;
    const std::int64_t count = std::min(grid.key_block, grid.key_length - first);
    const auto keys = operand<A, T>(k, first, count, K, lanes.keys);
    cpu_kernels().of<A>().product({count, lanes.stride, K, keys.data, keys.stride, 1, lanes.q_KL,
                                   lanes.stride, lanes.scores_JL, lanes.stride, false});
    reduce_block(lanes, m, first, count, static_cast<A>(a.scale));
  }
}

// The largest logit of every lane and, relative to it, the sum of all. p is exp(s - top) / total
// rather than exp(s - lse): s - top is small and exact where p is large.
template <class A>
void merge_blocks(const Lanes<A>& lanes) {
  for (std::int64_t i = 0; i < lanes.count; ++i) {
    A top = -std::numeric_limits<A>::infinity(), sum = 0;
    for (std::int64_t m = lanes.blocks.begin; m < lanes.blocks.end; ++m)
      top = std::max(top, lanes.maximum_ML[m * lanes.stride + i]);
    for (std::int64_t m = lanes.blocks.begin; m < lanes.blocks.end; ++m)
      sum += lanes.sum_ML[m * lanes.stride + i] *
             std::exp(lanes.maximum_ML[m * lanes.stride + i] - top);
    lanes.top_L[i] = top;
    lanes.total_L[i] = sum;
  }
}

// -sum_j p log p = log total - sum_j p (s - top) of lane i, over the log of its number of keys. In
// f64, as it is the difference of larger numbers.
template <class A>
double normalised_entropy(const Lanes<A>& lanes, std::int64_t i) {
  const A keys = lanes.end_L[i] - lanes.begin_L[i];
  if (keys <= 1) return 0;
  double below = 0;  // sum_j exp(s - top) (s - top)
  for (std::int64_t m = lanes.blocks.begin; m < lanes.blocks.end; ++m) {
    const std::int64_t at = m * lanes.stride + i;
    const double shift = static_cast<double>(lanes.maximum_ML[at] - lanes.top_L[i]);
    const double factor = std::exp(shift);
    if (factor > 0)
      below += factor * (static_cast<double>(lanes.moment_ML[at]) +
                         shift * static_cast<double>(lanes.sum_ML[at]));
  }
  const double total = static_cast<double>(lanes.total_L[i]);
  return (std::log(total) - below / total) / std::log(static_cast<double>(keys));
}

template <class A>
void write_group(const BlockMassTeacher::Arguments& a, const Task& task, const Lanes<A>& lanes,
                 std::int64_t r, std::int64_t first_lane, std::int64_t queries) {
  const std::int64_t M = a.grid.key_blocks(), n = a.groups_R.data<std::int32_t>()[r];
  const std::int64_t row = (task.b * a.grid.heads + task.h) * a.groups_R.numel() + r;
  const BlockRange candidates = group_blocks(a.grid, task.b, n).candidates;
  A* const g = a.teacher_BHRM.data<A>() + row * M;
  for (std::int64_t m = candidates.begin; m < candidates.end; ++m) {
    g[m] = 0;
    if (!lanes.blocks.contains(m)) continue;
    for (std::int64_t i = first_lane; i < first_lane + queries; ++i) {
      const std::int64_t at = m * lanes.stride + i;
      const A p = std::exp(lanes.maximum_ML[at] - lanes.top_L[i]) / lanes.total_L[i];
      g[m] =
          a.statistic == BlockStatistic::maximum ? std::max(g[m], p) : g[m] + p * lanes.sum_ML[at];
    }
  }
  a.weight_BHR.data<A>()[row] =
      normalise_teacher(candidates, M, is_dense_head(a.dense_heads_H, task.h), g);
  if (a.entropy_BHR.defined()) {
    double sum = 0;
    for (std::int64_t i = 0; i < queries; ++i) sum += normalised_entropy(lanes, first_lane + i);
    a.entropy_BHR.data<A>()[row] = static_cast<A>(sum / static_cast<double>(queries));
  }
  if (a.largest_BHR.defined())
    a.largest_BHR.data<A>()[row] =
        *std::max_element(lanes.top_L + first_lane, lanes.top_L + first_lane + queries);
}

template <class T>
void teach(const BlockMassTeacher::Arguments& a, const ExecutionContext& context) {
  using A = Accumulator<T>;
  const BlockGrid& grid = a.grid;
  const std::int64_t R = a.groups_R.numel(), H = grid.heads, K = a.q_THK.dim(1) / H;
  const std::int64_t M = grid.key_blocks();
  const std::int64_t per_task = std::max<std::int64_t>(1, kQueries / grid.query_block);
  const std::int64_t tasks = (R + per_task - 1) / per_task;
  const std::int64_t lane_count =
      padded_to_lanes<A>(grid.query_block * std::min(per_task, std::max<std::int64_t>(1, R)));
  const int threads =
      threads_for(context, 2 * R * grid.query_block * grid.key_length * grid.batch * H * K);
  const Scratch<A> scratch(context, threads, Lanes<A>::elements(K, grid.key_block, M, lane_count));
  parallel_for(grid.batch * H * tasks, threads, [&](std::int64_t index, int thread) {
    const std::int64_t bh = index / tasks, begin = index % tasks * per_task;
    const Task task{bh / H, bh % H, begin, std::min(R, begin + per_task)};
    Lanes<A> lanes(scratch.of(thread), K, grid.key_block, M, lane_count);
    load_queries<T>(a, task, lanes);
    scan_blocks<T>(a, task, lanes);
    merge_blocks(lanes);
    std::int64_t lane = 0;
    for (std::int64_t r = task.begin; r < task.end; ++r) {
      const std::int64_t n = a.groups_R.data<std::int32_t>()[r];
      const std::int64_t queries = grid.end_position(n) - first_query(grid, n);
      write_group(a, task, lanes, r, lane, queries);
      lane += queries;
    }
  });
}

}  // namespace

void BlockMassTeacher::cpu(const Arguments& a, ExecutionContext& context) {
  for (const std::int32_t n : a.groups_R.span<std::int32_t>())
    FILIGREE_CHECK(n >= 0 && n < a.grid.groups(), "group ", n, " of ", a.grid.groups());
  visit_floating(a.q_THK.dtype(), [&](auto type) { teach<decltype(type)>(a, context); });
}

}  // namespace filigree
