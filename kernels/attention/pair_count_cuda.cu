#include "kernels/attention/attention_cuda_pattern.hpp"
#include "kernels/attention/pair_count.hpp"
#include "kernels/cuda/launch.hpp"

namespace filigree {
namespace {

constexpr int kThreads = 256;

// The keys that one query reads: whole runs at once, key by key where window and sinks decide.
__device__ std::int64_t visited_keys(const DevicePattern& p, int b, int h, int query,
                                     const QueryReach& reach) {
  Walk walk = keys_of(p, b, h, {query, query + 1});
  std::int64_t visited = 0;
  while (walk.advance()) {
    if (walk.run_slot != kPart) {
      visited += walk.run.end - walk.run.begin;
      continue;
    }
    for (int key = walk.run.begin; key < walk.run.end; ++key)
      visited += reads(p, reach, key, false);
  }
  return visited;
}

// A thread has a query of a head. Sums of integers are the same in any order.
__global__ void __launch_bounds__(kThreads)
    count_pairs_kernel(DevicePattern p, std::int64_t rows, unsigned long long* pairs) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  std::int64_t visited = 0, allowed = 0;
  if (i < rows) {
    const int query = static_cast<int>(i % p.query_length);
    const auto head = static_cast<int>(i / p.query_length);
    const int b = head / p.query_heads;
    const QueryReach reach = reach_of(p, b, query);
    allowed = larger(0, reach.end - reach.begin);
    visited = visited_keys(p, b, head % p.query_heads, query, reach);
  }
  visited = warp_sum(visited);
  allowed = warp_sum(allowed);
  if (threadIdx.x % kWarp != 0) return;
  atomicAdd(pairs, static_cast<unsigned long long>(visited));
  atomicAdd(pairs + 1, static_cast<unsigned long long>(allowed));
}

}  // namespace

void CountPairs::cuda(const Arguments& a, ExecutionContext& context) {
  const std::int64_t rows = a.shape.batch * a.shape.query_heads * a.shape.query_length;
  context.zero(a.pairs);
  launch(context, {blocks_for(rows, kThreads), kThreads}, count_pairs_kernel,
         device_pattern(a.shape, a.pattern), rows, device_data<unsigned long long>(a.pairs));
}

}  // namespace filigree
