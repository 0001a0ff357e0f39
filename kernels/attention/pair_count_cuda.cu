#include "kernels/attention/pair_count.hpp"
#include "kernels/cuda/device.hpp"
#include "kernels/cuda/launch.hpp"

namespace filigree {
namespace {

constexpr int kThreads = 256;

struct Range {
  std::int64_t begin, end;
  __device__ std::int64_t count() const { return begin < end ? end - begin : 0; }
};
__device__ __forceinline__ Range common(Range x, Range y) {
  return {x.begin > y.begin ? x.begin : y.begin, x.end < y.end ? x.end : y.end};
}

// The pattern as the device sees it; see AttentionPattern.
struct Pattern {
  AttentionShape shape;
  std::int64_t window, sinks, query_block, key_block, groups, slots;
  const std::int32_t *counts, *indices;               // null without lists
  const std::int32_t *document_begin, *document_end;  // null without documents
  bool everything;

  __device__ Range reachable(std::int64_t b, std::int64_t position) const {
    const Range keys{
        0, shape.causal && position + 1 < shape.key_length ? position + 1 : shape.key_length};
    if (document_begin == nullptr) return keys;
    const std::int64_t token = b * shape.key_length + position;
    return common(keys, {document_begin[token], document_end[token]});
  }

  // Keys of `keys` that window or sinks allow.
  __device__ std::int64_t unchosen(Range reach, std::int64_t position, Range keys) const {
    const Range near = common(keys, {position - window + 1, position + window});
    const Range sink = common(keys, {reach.begin, reach.begin + sinks});
    return near.count() + sink.count() - common(near, sink).count();
  }

  __device__ std::int64_t visited(std::int64_t b, std::int64_t h, std::int64_t position,
                                  Range reach) const {
    if (everything) return reach.count();
    std::int64_t pairs = unchosen(reach, position, reach);
    if (counts == nullptr) return pairs;
    const std::int64_t group = position / query_block - shape.query_offset / query_block;
    const std::int64_t list = (b * shape.query_heads + h) * groups + group;
    for (std::int64_t j = 0; j < counts[list]; ++j) {
      const std::int64_t block = indices[list * slots + j];
      const Range keys = common(reach, {block * key_block, (block + 1) * key_block});
      pairs += keys.count() - unchosen(reach, position, keys);
    }
    return pairs;
  }
};

// A thread has a query of a head. Sums of integers are the same in any order.
__global__ void __launch_bounds__(kThreads)
    count_pairs_kernel(Pattern p, unsigned long long* pairs) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::int64_t queries = p.shape.query_length, heads = p.shape.query_heads;
  std::int64_t visited = 0, allowed = 0;
  if (i < p.shape.batch * heads * queries) {
    const std::int64_t b = i / queries / heads, position = i % queries + p.shape.query_offset;
    const Range reach = p.reachable(b, position);
    allowed = reach.count();
    visited = p.visited(b, i / queries % heads, position, reach);
  }
  visited = warp_sum(visited);
  allowed = warp_sum(allowed);
  if (threadIdx.x % kWarp != 0) return;
  atomicAdd(pairs, static_cast<unsigned long long>(visited));
  atomicAdd(pairs + 1, static_cast<unsigned long long>(allowed));
}

}  // namespace

void CountPairs::cuda(const Arguments& a, ExecutionContext& context) {
  const BlockLists& lists = a.pattern.lists;
  const bool listed = lists.defined();
  const Pattern pattern{.shape = a.shape,
                        .window = a.pattern.window,
                        .sinks = a.pattern.sinks,
                        .query_block = listed ? lists.query_block : 1,
                        .key_block = listed ? lists.key_block : 1,
                        .groups = listed ? lists.counts_BHN.dim(2) : 0,
                        .slots = listed ? lists.indices_BHNJ.dim(3) : 0,
                        .counts = device_data<std::int32_t>(lists.counts_BHN),
                        .indices = device_data<std::int32_t>(lists.indices_BHNJ),
                        .document_begin = device_data<std::int32_t>(a.pattern.document_begin_T),
                        .document_end = device_data<std::int32_t>(a.pattern.document_end_T),
                        .everything = a.pattern.reads_everything()};
  const std::int64_t queries = a.shape.batch * a.shape.query_heads * a.shape.query_length;
  context.zero(a.pairs);
  launch(context, {blocks_for(queries, kThreads), kThreads}, count_pairs_kernel, pattern,
         device_data<unsigned long long>(a.pairs));
}

}  // namespace filigree
