// The measurements of `filigree bench attention`.
#include <algorithm>
#include <cmath>

#include "kernels/attention/attention.hpp"
#include "kernels/attention/block_selection.hpp"
#include "launch/commands/bench_attention.hpp"
#include "launch/commands/bench_timing.hpp"
#include "runtime/core/random.hpp"

namespace filigree {

namespace {

constexpr std::uint64_t kSeed = 1;

Tensor random_values(const Shape& shape, DType dtype, std::uint64_t stream) {
  const Philox random(kSeed, RandomPurpose::test, stream);
  const Tensor values = Tensor::empty(shape, DType::f32);
  for (std::int64_t i = 0; i < values.numel(); ++i)
    values.data<float>()[i] = static_cast<float>(2 * random.uniform(i) - 1);
  return dtype == DType::f32 ? values : values.to(dtype);
}

// The tensors of one length, dense and sparse in turn.
struct Problem {
  Problem(const AttentionBenchSettings& settings, std::int64_t sequence,
          const ExecutionContext& context)
      : shape{1,
              sequence,
              sequence,
              settings.heads,
              settings.kv_heads,
              settings.head_dim,
              0,
              true,
              1 / std::sqrt(double(settings.head_dim))} {
    const Shape query{sequence, shape.query_heads * shape.head_dim};
    const Shape key{sequence, shape.kv_heads * shape.head_dim};
    const DType dtype = settings.dtype;
    const auto values = [&](const Shape& of, std::uint64_t stream) {
      return context.upload(random_values(of, dtype, stream));
    };
    q = values(query, 1), k = values(key, 2), v = values(key, 3), d_o = values(query, 4);
    o = context.zeros(query, dtype), dq = context.zeros(query, dtype);
    dk = context.zeros(key, dtype), dv = context.zeros(key, dtype);
    lse = context.zeros({1, shape.query_heads, sequence}, DType::f32);
  }
  AttentionForward::Arguments forward(const AttentionPattern& pattern) const {
    return {shape, q, k, v, o, lse, pattern};
  }
  AttentionBackward::Arguments backward(const AttentionPattern& pattern) const {
    return {shape, q, k, v, o, lse, d_o, dq, dk, dv, pattern, {}};
  }
  AttentionShape shape;
  Tensor q, k, v, d_o, o, lse, dq, dk, dv;
};

// Blocks of one group, ascending: first, previous and its own, and as many drawn from the others as
// the share of all asks for.
std::vector<std::int32_t> draw_blocks(std::int64_t first_own, std::int64_t last_own, double share,
                                      const Philox& random, std::uint64_t at) {
  const auto is_forced = [&](std::int64_t m) { return m == 0 || m >= first_own - 1; };
  const std::int64_t blocks = last_own + 1;
  const std::int64_t free = std::max<std::int64_t>(0, first_own - 2);
  std::int64_t wanted = std::llround(share * double(blocks)) - (blocks - free), left = free;
  std::vector<std::int32_t> chosen;
  for (std::int64_t m = 0; m < blocks; ++m) {
    // Of those left, each with the same chance (selection sampling, Knuth, TAOCP 3.4.2 S).
    const bool drawn = !is_forced(m) && random.uniform(at + m) * double(left) < double(wanted);
    if (is_forced(m) || drawn) chosen.push_back(static_cast<std::int32_t>(m));
    if (!is_forced(m)) --left, wanted -= drawn;
  }
  return chosen;
}

// In host memory.
BlockLists draw_lists(const AttentionShape& s, std::int64_t query_block, std::int64_t key_block,
                      double share) {
  const std::int64_t groups = query_groups(s, query_block), blocks = key_blocks(s, key_block);
  const Philox random(kSeed, RandomPurpose::test, 5);
  std::vector<std::vector<std::int32_t>> lists;
  std::size_t slots = 1;
  for (std::int64_t row = 0; row < s.query_heads * groups; ++row) {
    const std::int64_t begin = row % groups * query_block;
    const std::int64_t end = std::min(begin + query_block, s.query_length);
    lists.push_back(draw_blocks(begin / key_block, (end - 1) / key_block, share, random,
                                std::uint64_t(row) * blocks));
    slots = std::max(slots, lists.back().size());
  }
  BlockLists result;
  result.query_block = query_block, result.key_block = key_block;
  result.counts_BHN = Tensor::empty({1, s.query_heads, groups}, DType::i32);
  result.indices_BHNJ = Tensor::empty({1, s.query_heads, groups, std::int64_t(slots)}, DType::i32);
  std::fill_n(result.indices_BHNJ.data<std::int32_t>(), result.indices_BHNJ.numel(), -1);
  for (std::size_t row = 0; row < lists.size(); ++row) {
    result.counts_BHN.data<std::int32_t>()[row] = static_cast<std::int32_t>(lists[row].size());
    std::copy(lists[row].begin(), lists[row].end(),
              result.indices_BHNJ.data<std::int32_t>() + row * slots);
  }
  result.transposed_counts_BHM = Tensor::empty({1, s.query_heads, blocks}, DType::i32);
  result.transposed_indices_BHMN = Tensor::empty({1, s.query_heads, blocks, groups}, DType::i32);
  ExecutionContext context;
  dispatch<BlockTranspose>({result.counts_BHN, result.indices_BHNJ, result.transposed_counts_BHM,
                            result.transposed_indices_BHMN},
                           context);
  return result;
}

AttentionPattern uploaded(const AttentionPattern& host, const ExecutionContext& context) {
  AttentionPattern pattern = host;
  BlockLists& lists = pattern.lists;
  for (Tensor* tensor : {&lists.counts_BHN, &lists.indices_BHNJ, &lists.transposed_counts_BHM,
                         &lists.transposed_indices_BHMN})
    *tensor = context.upload(*tensor);
  return pattern;
}

// `counted` are the arguments with their lists in host memory, where pairs can be counted.
template <class Op>
void measure(const typename Op::Arguments& arguments, const typename Op::Arguments& counted,
             ExecutionContext& context, double* seconds, double* gflops) {
  const Implementation<Op>& chosen = select_implementation<Op>(arguments, context);
  *seconds = fastest_call(0.02, context, [&] { chosen.run(arguments, context); });
  *gflops = double(Op::work(counted).flops) / *seconds * 1e-9;
}

// `context` as dense attention sees it. A library is measured at its fastest: its backward may add
// in any order.
template <class Op>
ExecutionContext dense_context(const std::string& name, const typename Op::Arguments& arguments,
                               const ExecutionContext& context) {
  ExecutionContext result = context;
  if (name.empty()) return result;
  result.deterministic = false;
  result.forced_kernels[std::string(Op::name)] = name;
  std::string known;
  for (const Implementation<Op>& candidate : kernel_table().implementations<Op>()) {
    if (candidate.device != context.device.kind) continue;
    known += str(known.empty() ? "" : ", ", candidate.name);
    if (candidate.name != name) continue;
    if (const auto reason = candidate.reject(arguments, result))
      throw UserError(str("--dense ", name, " cannot run ", Op::name, " here: ", *reason));
    return result;
  }
  throw UserError(str("--dense ", name, ": ", Op::name, " has no such implementation on ",
                      context.device.kind == DeviceKind::cpu ? "the CPU" : "GPUs",
                      "; there is: ", known));
}

// All densities of one grouping beside the dense times, which are taken again each time: the
// machine's own speed may drift.
void measure_grouping(const AttentionBenchSettings& settings, const Problem& problem,
                      std::int64_t query_block, std::int64_t key_block, ExecutionContext& context,
                      std::vector<AttentionMeasurement>* rows) {
  const AttentionShape& s = problem.shape;
  AttentionMeasurement row;
  row.sequence = s.query_length, row.query_block = query_block, row.key_block = key_block;
  AttentionTiming &forward = row.forward, &backward = row.backward;
  const AttentionForward::Arguments dense = problem.forward({});
  const AttentionBackward::Arguments dense_backward = problem.backward({});
  ExecutionContext dense_run = dense_context<AttentionForward>(settings.dense, dense, context);
  measure<AttentionForward>(dense, dense, dense_run, &forward.dense_seconds, &forward.dense_gflops);
  dense_run = dense_context<AttentionBackward>(settings.dense, dense_backward, context);
  measure<AttentionBackward>(dense_backward, dense_backward, dense_run, &backward.dense_seconds,
                             &backward.dense_gflops);
  for (const double density : settings.densities) {
    AttentionPattern pattern;
    pattern.lists = draw_lists(s, query_block, key_block, density / 100);
    const double read = 100 * double(visited_pairs(s, pattern)) / double(allowed_pairs(s, pattern));
    // Below what the forced blocks take, every density gives the same lists.
    if (read == row.density) continue;
    row.asked_density = density, row.density = read;
    const AttentionPattern on_device = uploaded(pattern, context);
    measure<AttentionForward>(problem.forward(on_device), problem.forward(pattern), context,
                              &forward.sparse_seconds, &forward.sparse_gflops);
    measure<AttentionBackward>(problem.backward(on_device), problem.backward(pattern), context,
                               &backward.sparse_seconds, &backward.sparse_gflops);
    rows->push_back(row);
  }
}

}  // namespace

std::vector<AttentionMeasurement> measure_attention(const AttentionBenchSettings& settings,
                                                    ExecutionContext& context) {
  std::vector<AttentionMeasurement> rows;
  for (const std::int64_t sequence : settings.sequences) {
    const Problem problem(settings, sequence, context);
    for (const std::int64_t query_block : settings.query_blocks)
      for (const std::int64_t key_block : settings.key_blocks)
        measure_grouping(settings, problem, query_block, key_block, context, &rows);
  }
  return rows;
}

}  // namespace filigree
