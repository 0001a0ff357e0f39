// Forward attention in tiles of at most 64 queries by 64 keys (Dao et al. 2022), one query per
// vector lane: scores are kept as [key, query], so that the softmax reduces across registers and
// never within one.
#include <limits>
#include <vector>

#include "kernels/attention/attention_cpu.hpp"
#include "kernels/attention/attention_tiles.hpp"
#include "kernels/cpu/parallel_for.hpp"

namespace filigree {

namespace {

template <class T>
class Forward {
 public:
  using Acc = Accumulator<T>;
  Forward(const AttentionForward::Arguments& a, const CpuKernels& kernels)
      : a_(a),
        s_(a.shape),
        allowed_(a.shape, a.pattern),
        padded_dim_(padded_to_lanes<Acc>(s_.head_dim)),
        kernels_(kernels.of<Acc>()) {}

  void run(ExecutionContext& context) const {
    const std::vector<Interval> queries = query_tiles(s_, allowed_);
    const auto tiles = static_cast<std::int64_t>(queries.size());
    const Scratch<Acc> scratch(
        context, context.num_threads,
        (3 * padded_dim_ + kKeyTile + 4) * kQueryTile + 2 * kKeyTile * padded_dim_);
    parallel_for(s_.batch * s_.query_heads * tiles, context.num_threads,
                 [&](std::int64_t task, int thread) {
                   // The last queries see the most keys: started first, they do not become the tail
                   // that others wait for.
                   const std::int64_t tile = tiles - 1 - task % tiles, head = task / tiles;
                   query_tile(head / s_.query_heads, head % s_.query_heads, queries[tile],
                              scratch.of(thread));
                 });
  }

 private:
  static constexpr Acc kMinusInfinity = -std::numeric_limits<Acc>::infinity();

  void query_tile(std::int64_t b, std::int64_t h, Interval tile, Acc* scratch) const {
    const std::int64_t count = tile.count(), dim = s_.head_dim;
    const std::int64_t lanes = padded_to_lanes<Acc>(count);
    const std::int64_t g = h / (s_.query_heads / s_.kv_heads);
    Pieces<Acc> pieces(scratch);
    Acc* const rows = pieces.take(kQueryTile * padded_dim_);
    Acc* const q_KQ = pieces.take(dim * kQueryTile);
    Acc* const o_KQ = pieces.take(dim * kQueryTile);
    Acc* const scores = pieces.take(kKeyTile * kQueryTile);
    Acc* const maximum = pieces.take(kQueryTile);
    Acc* const sum = pieces.take(kQueryTile);
    Acc* const first = pieces.take(kQueryTile);
    Acc* const last = pieces.take(kQueryTile);
    Acc* const k_buffer = pieces.take(kKeyTile * padded_dim_);
    Acc* const v_buffer = pieces.take(kKeyTile * padded_dim_);

    const auto queries = const_head_rows<T>(a_.q_THK, b, s_.query_length, h, dim);
    const auto keys = const_head_rows<T>(a_.k_TGK, b, s_.key_length, g, dim);
    const auto values = const_head_rows<T>(a_.v_TGK, b, s_.key_length, g, dim);
    load_rows<Acc, T>(queries, tile.begin, count, dim, rows, padded_dim_);
    transpose_rows(rows, padded_dim_, count, dim, q_KQ, lanes);
    std::fill(o_KQ, o_KQ + dim * lanes, Acc(0));
    std::fill(maximum, maximum + lanes, kMinusInfinity);
    std::fill(sum, sum + lanes, Acc(0));
    const Acc* const bias = bias_of_group(b, h, tile);
    KeyRuns<Acc>(allowed_, b, h, tile, first, last).for_each([&](const KeyRun<Acc>& run) {
      const auto k = view_rows<Acc, T>(keys, run.begin, run.count, dim, k_buffer);
      const auto v = view_rows<Acc, T>(values, run.begin, run.count, dim, v_buffer);
      kernels_.product(
          {run.count, lanes, dim, k.data, k.stride, 1, q_KQ, lanes, scores, lanes, false});
      kernels_.softmax({run.count, lanes, dim, static_cast<Acc>(s_.scale),
                        bias != nullptr && run.slot >= 0 ? bias[run.slot] : Acc(0), run.first,
                        run.last, scores, o_KQ, maximum, sum});
      kernels_.product(
          {dim, lanes, run.count, v.data, 1, v.stride, scores, lanes, o_KQ, lanes, true});
    });
    const HeadRows<T> out = head_rows<T>(a_.o_THK, b, s_.query_length, h, dim);
    Acc* const lse = a_.lse_BHS.data<Acc>() + (b * s_.query_heads + h) * s_.query_length;
    for (std::int64_t i = 0; i < count; ++i)
      finish_row(o_KQ + i, lanes, dim, maximum[i], sum[i], out.row(tile.begin + i),
                 lse + tile.begin + i);
  }

  const Acc* bias_of_group(std::int64_t b, std::int64_t h, Interval queries) const {
    if (!allowed_.has_bias()) return nullptr;
    return a_.pattern.bias_BHNJ.data<Acc>() +
           allowed_.slot_index(b, h, allowed_.group_of(queries.begin), 0);
  }

  const AttentionForward::Arguments& a_;
  const AttentionShape& s_;
  AllowedKeys allowed_;
  std::int64_t padded_dim_;
  const TileKernels<Acc>& kernels_;
};

}  // namespace

void attention_forward_tiles(const AttentionForward::Arguments& arguments,
                             const CpuKernels& kernels, ExecutionContext& context) {
  visit_floating(arguments.q_THK.dtype(),
                 [&](auto type) { Forward<decltype(type)>(arguments, kernels).run(context); });
}

}  // namespace filigree
