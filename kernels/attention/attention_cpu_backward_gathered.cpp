// Backward attention for lists of small groups, blocks of keys outside and query rows gathered
// through the transposed lists. One task owns a key/value head: dk and dv of a block are complete
// after the rows of all heads of the group, in ascending order; dq is added block after block in
// ascending order. Nothing depends on the number of threads. Scratch per thread: H/G Sq (K + 2)
// elements for dq, lse and delta, and the tiles; beside it k and v once more, transposed.
#include "kernels/attention/attention_cpu.hpp"
#include "kernels/attention/attention_gather.hpp"

namespace filigree {

namespace {

template <class T>
class Backward {
 public:
  using Acc = Accumulator<T>;
  Backward(const AttentionBackward::Arguments& a, const CpuKernels& kernels)
      : a_(a),
        s_(a.shape),
        allowed_(a.shape, a.pattern),
        heads_(s_.query_heads / s_.kv_heads),
        padded_dim_(padded_to_lanes<Acc>(s_.head_dim)),
        padded_length_(padded_to_lanes<Acc>(s_.query_length)),
        kernels_(kernels.of<Acc>()) {}

  void run(ExecutionContext& context) const {
    const std::int64_t key_block = allowed_.key_block();
    const TransposedBlocks<T> k_blocks(a_.k_TGK, s_, key_block, context);
    const TransposedBlocks<T> v_blocks(a_.v_TGK, s_, key_block, context);
    if (allowed_.has_bias()) a_.dbias_BHNJ.zero();
    const std::int64_t lanes = k_blocks.lanes();
    const Scratch<Acc> scratch(context, context.num_threads,
                               heads_ * padded_length_ * (padded_dim_ + 2) +
                                   (3 * kQueryTile + 3 * lanes) * padded_dim_ +
                                   kQueryTile * (2 * lanes + 3));
    const Tensor slots_used =
        context.empty({context.num_threads, heads_ * allowed_.groups()}, DType::i32);
    parallel_for(s_.batch * s_.kv_heads, context.num_threads, [&](std::int64_t task, int thread) {
      kv_head(task / s_.kv_heads, task % s_.kv_heads, k_blocks, v_blocks,
              Buffers(scratch.of(thread), *this, lanes),
              slots_used.data<std::int32_t>() + thread * heads_ * allowed_.groups());
    });
  }

 private:
  // Of all heads of the group: total_dq, total_lse, total_delta. Of one block: dk, dv, k. Of one
  // gathered tile, a query per row: the rest.
  struct Buffers {
    Buffers(Acc* scratch, const Backward& backward, std::int64_t lanes) {
      Pieces<Acc> pieces(scratch);
      const std::int64_t rows = backward.heads_ * backward.padded_length_;
      const std::int64_t dim = backward.padded_dim_;
      total_dq = pieces.take(rows * dim);
      for (Acc** buffer : {&total_lse, &total_delta}) *buffer = pieces.take(rows);
      for (Acc** buffer : {&dk, &dv, &k}) *buffer = pieces.take(lanes * dim);
      for (Acc** buffer : {&q, &d_o, &dq}) *buffer = pieces.take(kQueryTile * dim);
      for (Acc** buffer : {&p, &dp}) *buffer = pieces.take(kQueryTile * lanes);
      for (Acc** buffer : {&lse, &delta, &bias_gradient}) *buffer = pieces.take(kQueryTile);
    }
    Acc *total_dq, *total_lse, *total_delta, *dk, *dv, *k, *q, *d_o, *dq, *p, *dp, *lse, *delta,
        *bias_gradient;
  };

  // One block of keys and the head whose rows are gathered.
  struct Block {
    std::int64_t b, h;
    Interval keys;
    const Acc *k_KJ, *v_KJ;
    std::int64_t lanes;
    TileView<Acc> k;
  };

  HeadRows<const T> query_rows(const Tensor& tensor, std::int64_t b, std::int64_t h) const {
    return const_head_rows<T>(tensor, b, s_.query_length, h, s_.head_dim);
  }

  void kv_head(std::int64_t b, std::int64_t g, const TransposedBlocks<T>& k_blocks,
               const TransposedBlocks<T>& v_blocks, const Buffers& t,
               std::int32_t* slots_used) const {
    const std::int64_t groups = allowed_.groups();
    std::fill(slots_used, slots_used + heads_ * groups, 0);
    for (std::int64_t n = 0; n < heads_; ++n) prepare_head(b, g * heads_ + n, n, t);
    const std::int64_t key_block = allowed_.key_block(), dim = s_.head_dim;
    const auto k_rows = const_head_rows<T>(a_.k_TGK, b, s_.key_length, g, dim);
    for (std::int64_t m = 0; m < key_blocks(s_, key_block); ++m) {
      const Interval keys{m * key_block, std::min((m + 1) * key_block, s_.key_length)};
      std::fill(t.dk, t.dk + keys.count() * padded_dim_, Acc(0));
      std::fill(t.dv, t.dv + keys.count() * padded_dim_, Acc(0));
      const TileView<Acc> k = view_rows<Acc, T>(k_rows, keys.begin, keys.count(), dim, t.k);
      for (std::int64_t n = 0; n < heads_ && groups > 0; ++n) {
        const Block block{
            b, g * heads_ + n, keys, k_blocks.of(b, g, m), v_blocks.of(b, g, m), k_blocks.lanes(),
            k};
        RowGatherer<Acc>(allowed_, a_.pattern.bias_BHNJ, b, block.h, {0, groups},
                         slots_used + n * groups)
            .for_each(m, keys, [&](const GatheredRows<Acc>& rows) { tile(block, n, rows, t); });
      }
      write_rows(t.dk, keys.count(), head_rows<T>(a_.dk_TGK, b, s_.key_length, g, dim), keys.begin);
      write_rows(t.dv, keys.count(), head_rows<T>(a_.dv_TGK, b, s_.key_length, g, dim), keys.begin);
    }
    for (std::int64_t n = 0; n < heads_; ++n)
      write_rows(t.total_dq + n * padded_length_ * padded_dim_, s_.query_length,
                 head_rows<T>(a_.dq_THK, b, s_.query_length, g * heads_ + n, dim), 0);
  }

  // lse and delta of all queries; dq cleared.
  void prepare_head(std::int64_t b, std::int64_t h, std::int64_t n, const Buffers& t) const {
    Acc* const delta = t.total_delta + n * padded_length_;
    Acc* const dq = t.total_dq + n * padded_length_ * padded_dim_;
    std::fill(dq, dq + padded_length_ * padded_dim_, Acc(0));
    std::fill(delta, delta + padded_length_, Acc(0));
    load_lse(a_.lse_BHS.data<Acc>() + (b * s_.query_heads + h) * s_.query_length, s_.query_length,
             padded_length_, t.total_lse + n * padded_length_);
    for (std::int64_t begin = 0; begin < s_.query_length; begin += kQueryTile) {
      const std::int64_t count = std::min(kQueryTile, s_.query_length - begin);
      load_rows<Acc, T>(query_rows(a_.do_THK, b, h), begin, count, s_.head_dim, t.d_o, padded_dim_);
      add_delta<Acc, T>(query_rows(a_.o_THK, b, h), begin, count, s_.head_dim, t.d_o, padded_dim_,
                        delta + begin);
    }
  }

  void tile(const Block& block, std::int64_t n, const GatheredRows<Acc>& rows,
            const Buffers& t) const {
    const std::int64_t dim = s_.head_dim, stride = padded_dim_, lanes = block.lanes;
    const std::int64_t count = rows.count, key_count = block.keys.count();
    Acc* const total_dq = t.total_dq + n * padded_length_ * stride;
    gather_head_rows<Acc, T>(query_rows(a_.q_THK, block.b, block.h), rows.query, count, dim, t.q,
                             stride);
    gather_head_rows<Acc, T>(query_rows(a_.do_THK, block.b, block.h), rows.query, count, dim, t.d_o,
                             stride);
    gather_rows(total_dq, rows.query, count, stride, t.dq);
    gather_numbers(t.total_lse + n * padded_length_, rows.query, count, t.lse);
    gather_numbers(t.total_delta + n * padded_length_, rows.query, count, t.delta);
    kernels_.product({count, lanes, dim, t.q, stride, 1, block.k_KJ, lanes, t.p, lanes, false});
    kernels_.product({count, lanes, dim, t.d_o, stride, 1, block.v_KJ, lanes, t.dp, lanes, false});
    kernels_.row_softmax_gradient({count, lanes, static_cast<Acc>(s_.scale), rows.first, rows.last,
                                   rows.bias, t.lse, t.delta, t.p, t.dp,
                                   allowed_.has_bias() ? t.bias_gradient : nullptr});
    kernels_.product({key_count, dim, count, t.p, 1, lanes, t.d_o, stride, t.dv, stride, true});
    kernels_.product({key_count, dim, count, t.dp, 1, lanes, t.q, stride, t.dk, stride, true});
    kernels_.product(
        {count, dim, key_count, t.dp, lanes, 1, block.k.data, block.k.stride, t.dq, stride, true});
    scatter_rows(t.dq, rows.query, count, stride, total_dq);
    if (!allowed_.has_bias()) return;
    for (std::int64_t r = 0; r < count; ++r)
      if (rows.slot[r] >= 0) a_.dbias_BHNJ.data<Acc>()[rows.slot[r]] += t.bias_gradient[r];
  }

  void write_rows(const Acc* from, std::int64_t count, HeadRows<T> to, std::int64_t begin) const {
    for (std::int64_t i = 0; i < count; ++i)
      for (std::int64_t d = 0; d < s_.head_dim; ++d)
        to.row(begin + i)[d] = static_cast<T>(from[i * padded_dim_ + d]);
  }

  const AttentionBackward::Arguments& a_;
  const AttentionShape& s_;
  AllowedKeys allowed_;
  std::int64_t heads_, padded_dim_, padded_length_;
  const TileKernels<Acc>& kernels_;
};

}  // namespace

void attention_backward_gathered(const AttentionBackward::Arguments& arguments,
                                 const CpuKernels& kernels, ExecutionContext& context) {
  visit_floating(arguments.q_THK.dtype(),
                 [&](auto type) { Backward<decltype(type)>(arguments, kernels).run(context); });
}

}  // namespace filigree
