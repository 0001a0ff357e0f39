// Forward attention for lists of small groups, blocks of keys outside: the query rows that read a
// block are gathered through the transposed lists into dense tiles, as FlashMoBA (2025) does, so
// that the cost is that of the pairs read and a block stays in the first-level cache. Each row's
// running softmax is brought up to date block after block in ascending order: the bits depend
// neither on the number of threads nor on which other rows share a tile.
#include <limits>

#include "kernels/attention/attention_cpu.hpp"
#include "kernels/attention/attention_gather.hpp"

namespace filigree {

namespace {

// A task owns this many queries of a head: their running outputs stay in the second-level cache,
// and scratch per thread does not grow with the sequence.
constexpr std::int64_t kChunk = 1024;

template <class T>
class Forward {
 public:
  using Acc = Accumulator<T>;
  Forward(const AttentionForward::Arguments& a, const CpuKernels& kernels)
      : a_(a),
        s_(a.shape),
        allowed_(a.shape, a.pattern),
        padded_dim_(padded_to_lanes<Acc>(s_.head_dim)),
        chunk_groups_(std::max<std::int64_t>(1, kChunk / a.pattern.lists.query_block)),
        kernels_(kernels.of<Acc>()) {}

  void run(ExecutionContext& context) const {
    const TransposedBlocks<T> k_blocks(a_.k_TGK, s_, allowed_.key_block(), context);
    const std::int64_t chunks = (allowed_.groups() + chunk_groups_ - 1) / chunk_groups_;
    const std::int64_t lanes = k_blocks.lanes();
    const Scratch<Acc> scratch(context, context.num_threads,
                               (queries_per_chunk() + 2 * kQueryTile + lanes) * padded_dim_ +
                                   2 * padded_to_lanes<Acc>(queries_per_chunk()) +
                                   (lanes + 2) * kQueryTile);
    const Tensor slots_used = context.empty({context.num_threads, chunk_groups_}, DType::i32);
    // The last chunk reads the most keys and starts first.
    parallel_for(s_.batch * s_.query_heads * chunks, context.num_threads,
                 [&](std::int64_t task, int thread) {
                   const std::int64_t c = chunks - 1 - task % chunks, head = task / chunks;
                   const Interval groups{c * chunk_groups_,
                                         std::min((c + 1) * chunk_groups_, allowed_.groups())};
                   chunk(head / s_.query_heads, head % s_.query_heads, groups, k_blocks,
                         Buffers(scratch.of(thread), *this, lanes),
                         slots_used.data<std::int32_t>() + thread * chunk_groups_);
                 });
  }

 private:
  static constexpr Acc kMinusInfinity = -std::numeric_limits<Acc>::infinity();

  std::int64_t queries_per_chunk() const { return chunk_groups_ * a_.pattern.lists.query_block; }

  // total, total_maximum, total_sum: running softmax of the queries of the chunk; the rest: one
  // gathered tile, a query per row.
  struct Buffers {
    Buffers(Acc* scratch, const Forward& forward, std::int64_t lanes) {
      Pieces<Acc> pieces(scratch);
      const std::int64_t queries = forward.queries_per_chunk(), dim = forward.padded_dim_;
      total = pieces.take(queries * dim);
      for (Acc** buffer : {&total_maximum, &total_sum}) *buffer = pieces.take(queries);
      for (Acc** buffer : {&q, &o}) *buffer = pieces.take(kQueryTile * dim);
      scores = pieces.take(kQueryTile * lanes);
      for (Acc** buffer : {&maximum, &sum}) *buffer = pieces.take(kQueryTile);
      v = pieces.take(lanes * dim);
    }
    Acc *total, *total_maximum, *total_sum, *q, *o, *scores, *maximum, *sum, *v;
  };

  void chunk(std::int64_t b, std::int64_t h, Interval groups, const TransposedBlocks<T>& k_blocks,
             const Buffers& t, std::int32_t* slots_used) const {
    const std::int64_t begin = allowed_.queries_of(groups.begin).begin;
    const std::int64_t count = allowed_.queries_of(groups.end - 1).end - begin;
    const std::int64_t g = h / (s_.query_heads / s_.kv_heads);
    std::fill(t.total, t.total + count * padded_dim_, Acc(0));
    std::fill(t.total_maximum, t.total_maximum + count, kMinusInfinity);
    std::fill(t.total_sum, t.total_sum + count, Acc(0));
    std::fill(slots_used, slots_used + groups.count(), 0);
    const RowGatherer<Acc> gatherer(allowed_, a_.pattern.bias_BHNJ, b, h, groups, slots_used);
    const auto values = const_head_rows<T>(a_.v_TGK, b, s_.key_length, g, s_.head_dim);
    for (std::int64_t m = 0; m < key_blocks(s_, allowed_.key_block()); ++m) {
      const Interval keys{m * allowed_.key_block(),
                          std::min((m + 1) * allowed_.key_block(), s_.key_length)};
      TileView<Acc> v{nullptr, 0};
      gatherer.for_each(m, keys, [&](const GatheredRows<Acc>& rows) {
        if (v.data == nullptr)
          v = view_rows<Acc, T>(values, keys.begin, keys.count(), s_.head_dim, t.v);
        tile(b, h, begin, rows, k_blocks.of(b, g, m), k_blocks.lanes(), v, keys.count(), t);
      });
    }
    const HeadRows<T> out = head_rows<T>(a_.o_THK, b, s_.query_length, h, s_.head_dim);
    Acc* const lse = a_.lse_BHS.data<Acc>() + (b * s_.query_heads + h) * s_.query_length + begin;
    for (std::int64_t i = 0; i < count; ++i)
      finish_row(t.total + i * padded_dim_, 1, s_.head_dim, t.total_maximum[i], t.total_sum[i],
                 out.row(begin + i), lse + i);
  }

  void tile(std::int64_t b, std::int64_t h, std::int64_t begin, const GatheredRows<Acc>& rows,
            const Acc* k_KJ, std::int64_t lanes, TileView<Acc> v, std::int64_t key_count,
            const Buffers& t) const {
    const auto queries = const_head_rows<T>(a_.q_THK, b, s_.query_length, h, s_.head_dim);
    const std::int64_t stride = padded_dim_;
    std::int64_t local[kQueryTile];
    for (std::int64_t r = 0; r < rows.count; ++r) local[r] = rows.query[r] - begin;
    gather_head_rows<Acc, T>(queries, rows.query, rows.count, s_.head_dim, t.q, stride);
    gather_rows(t.total, local, rows.count, stride, t.o);
    gather_numbers(t.total_maximum, local, rows.count, t.maximum);
    gather_numbers(t.total_sum, local, rows.count, t.sum);
    kernels_.product(
        {rows.count, lanes, s_.head_dim, t.q, stride, 1, k_KJ, lanes, t.scores, lanes, false});
    kernels_.row_softmax({rows.count, lanes, stride, static_cast<Acc>(s_.scale), rows.first,
                          rows.last, rows.bias, t.scores, t.o, t.maximum, t.sum});
    kernels_.product({rows.count, s_.head_dim, key_count, t.scores, lanes, 1, v.data, v.stride, t.o,
                      stride, true});
    scatter_rows(t.o, local, rows.count, stride, t.total);
    scatter_numbers(t.maximum, local, rows.count, t.total_maximum);
    scatter_numbers(t.sum, local, rows.count, t.total_sum);
  }

  const AttentionForward::Arguments& a_;
  const AttentionShape& s_;
  AllowedKeys allowed_;
  std::int64_t padded_dim_, chunk_groups_;
  const TileKernels<Acc>& kernels_;
};

}  // namespace

void attention_forward_gathered(const AttentionForward::Arguments& arguments,
                                const CpuKernels& kernels, ExecutionContext& context) {
  visit_floating(arguments.q_THK.dtype(),
                 [&](auto type) { Forward<decltype(type)>(arguments, kernels).run(context); });
}

}  // namespace filigree
