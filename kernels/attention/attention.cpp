#include "kernels/attention/attention.hpp"

#include "kernels/attention/allowed_keys.hpp"
#include "kernels/attention/attention_implementations.hpp"
#include "kernels/attention/pair_count.hpp"
#include "kernels/registry.hpp"

namespace filigree {

namespace {

// Operations per pair and element of a head.
constexpr std::int64_t kForwardProducts = 4, kBackwardProducts = 10;

// All sequences and heads, a group of queries at a time.
std::int64_t count_pairs(const AttentionShape& s, const AttentionPattern& pattern) {
  const AllowedKeys allowed(s, pattern);
  std::int64_t pairs = 0;
  for (std::int64_t b = 0; b < s.batch; ++b)
    for (std::int64_t h = 0; h < s.query_heads; ++h)
      for (std::int64_t i = 0; i < s.query_length;) {
        const Interval queries =
            allowed.has_lists() ? allowed.queries_of(allowed.group_of(i)) : Interval{i, i + 1};
        pairs += allowed.count_pairs(b, h, queries);
        i = queries.end;
      }
  return pairs;
}

bool host_can_count(const AttentionPattern& pattern) {
  const auto on_host = [](const Tensor& tensor) {
    return !tensor.defined() || tensor.device().kind == DeviceKind::cpu;
  };
  return on_host(pattern.lists.counts_BHN) && on_host(pattern.document_begin_T);
}

void count_pairs_later(const AttentionShape& shape, const AttentionPattern& pattern,
                       std::int64_t flops_per_pair, ExecutionContext& context) {
  if (host_can_count(pattern)) return;
  const Tensor pairs = context.count_later(WorkPart::attention, flops_per_pair);
  dispatch<CountPairs>({.shape = shape, .pattern = pattern, .pairs = pairs}, context);
}

Work work_of(const AttentionShape& s, const AttentionPattern& pattern, std::int64_t flops_per_pair,
             std::int64_t bytes) {
  if (!host_can_count(pattern)) return {0, 0, bytes};
  const std::int64_t dense = allowed_pairs(s, pattern);
  const std::int64_t visited = pattern.reads_everything() ? dense : visited_pairs(s, pattern);
  if (pattern.lists.defined())
    bytes += pattern.lists.indices_BHNJ.bytes() + pattern.lists.counts_BHN.bytes();
  return {flops_per_pair * visited, flops_per_pair * dense, bytes};
}

std::optional<std::string> supported_dtype(const Tensor& q) {
  switch (q.dtype()) {
    case DType::f64:
    case DType::f32:
    case DType::bf16:
      return std::nullopt;
    default:
      return str("computes in f64, f32 and bf16, not in ", name_of(q.dtype()));
  }
}

template <class Op>
std::optional<std::string> reject_dtype(const typename Op::Arguments& arguments,
                                        const ExecutionContext&) {
  return supported_dtype(arguments.q_THK);
}

}  // namespace

std::int64_t allowed_pairs(const AttentionShape& shape) {
  const AttentionPattern dense;
  const AllowedKeys allowed(shape, dense);
  std::int64_t pairs = 0;
  for (std::int64_t i = 0; i < shape.query_length; ++i) pairs += allowed.reachable(0, i).count();
  return pairs;
}

std::int64_t allowed_pairs(const AttentionShape& shape, const AttentionPattern& pattern) {
  if (!pattern.document_begin_T.defined())
    return allowed_pairs(shape) * shape.batch * shape.query_heads;
  const AllowedKeys allowed(shape, pattern);
  std::int64_t pairs = 0;
  for (std::int64_t b = 0; b < shape.batch; ++b)
    for (std::int64_t i = 0; i < shape.query_length; ++i) pairs += allowed.reachable(b, i).count();
  return pairs * shape.query_heads;
}

std::int64_t visited_pairs(const AttentionShape& shape, const AttentionPattern& pattern) {
  return pattern.reads_everything() ? allowed_pairs(shape, pattern) : count_pairs(shape, pattern);
}

std::int64_t query_groups(const AttentionShape& shape, std::int64_t query_block) {
  if (shape.query_length == 0) return 0;
  return (shape.query_offset + shape.query_length - 1) / query_block -
         shape.query_offset / query_block + 1;
}

std::int64_t key_blocks(const AttentionShape& shape, std::int64_t key_block) {
  return (shape.key_length + key_block - 1) / key_block;
}

// Two products of 2 K operations per pair: scores and values.
Work AttentionForward::work(const Arguments& a) {
  return work_of(
      a.shape, a.pattern, kForwardProducts * a.shape.head_dim,
      a.q_THK.bytes() + a.k_TGK.bytes() + a.v_TGK.bytes() + a.o_THK.bytes() + a.lse_BHS.bytes());
}

// Five: scores again, dp, dv, dq, dk.
Work AttentionBackward::work(const Arguments& a) {
  return work_of(a.shape, a.pattern, kBackwardProducts * a.shape.head_dim,
                 2 * (a.q_THK.bytes() + a.k_TGK.bytes() + a.v_TGK.bytes() + a.o_THK.bytes()) +
                     a.lse_BHS.bytes());
}

void AttentionForward::count_later(const Arguments& a, ExecutionContext& context) {
  count_pairs_later(a.shape, a.pattern, kForwardProducts * a.shape.head_dim, context);
}
void AttentionBackward::count_later(const Arguments& a, ExecutionContext& context) {
  count_pairs_later(a.shape, a.pattern, kBackwardProducts * a.shape.head_dim, context);
}

void register_attention(KernelTable& table) {
  constexpr DeviceKind cpu = DeviceKind::cpu;
  constexpr auto forward = reject_dtype<AttentionForward>;
  table.add<AttentionForward>({"reference", cpu, 0, forward, attention_forward_reference});
  table.add<AttentionForward>({"portable", cpu, 5, forward, attention_forward_portable});
  table.add<AttentionForward>({"cpu", cpu, 10, forward, attention_forward_cpu});
  constexpr auto backward = reject_dtype<AttentionBackward>;
  table.add<AttentionBackward>({"reference", cpu, 0, backward, attention_backward_reference});
  table.add<AttentionBackward>({"portable", cpu, 5, backward, attention_backward_portable});
  table.add<AttentionBackward>({"cpu", cpu, 10, backward, attention_backward_cpu});
}

}  // namespace filigree
