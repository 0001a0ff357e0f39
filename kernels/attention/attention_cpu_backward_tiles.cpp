// Backward attention in tiles of at most 64 queries by 64 keys. Scores are recomputed; as in the
// forward they are kept as [key, query]. One task owns a key/value head, so that dk, dv and dbias
// are added in one fixed order (heads of the group, then queries, ascending) whatever the number of
// threads. Scratch per thread: 2 Sk K elements for dk and dv, and the tiles.
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/attention/attention_cpu.hpp"
#include "kernels/attention/attention_tiles.hpp"
#include "kernels/cpu/parallel_for.hpp"

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
        padded_dim_(padded_to_lanes<Acc>(s_.head_dim)),
        kernels_(kernels.of<Acc>()) {}

  void run(ExecutionContext& context) const {
    const std::vector<Interval> tiles = query_tiles(s_, allowed_);
    if (allowed_.has_bias()) a_.dbias_BHNJ.zero();
    const Scratch<Acc> scratch(
        context, context.num_threads,
        kQueryTile * (7 * padded_dim_ + 2 * kKeyTile + 4) + 2 * s_.key_length * padded_dim_);
    parallel_for(s_.batch * s_.kv_heads, context.num_threads, [&](std::int64_t task, int thread) {
      kv_head(task / s_.kv_heads, task % s_.kv_heads, tiles, scratch.of(thread));
    });
  }

 private:
  // The buffers of one query tile. _QK: a query per row, padded rows; _KQ: transposed, a query per
  // lane.
  struct Buffers {
    explicit Buffers(Acc* scratch, std::int64_t padded_dim, std::int64_t key_length) {
      Pieces<Acc> pieces(scratch);
      const std::int64_t tile = kQueryTile * padded_dim;
      for (Acc** buffer : {&q_QK, &do_QK, &q_KQ, &do_KQ, &dq_QK, &k, &v})
        *buffer = pieces.take(tile);
      for (Acc** buffer : {&p, &dp}) *buffer = pieces.take(kKeyTile * kQueryTile);
      for (Acc** buffer : {&lse, &delta, &first, &last}) *buffer = pieces.take(kQueryTile);
      for (Acc** buffer : {&dk, &dv}) *buffer = pieces.take(key_length * padded_dim);
    }
    Acc *q_QK, *do_QK, *q_KQ, *do_KQ, *dq_QK, *k, *v, *p, *dp, *lse, *delta, *first, *last, *dk,
        *dv;
  };

  HeadRows<const T> rows(const Tensor& tensor, std::int64_t b, std::int64_t length,
                         std::int64_t head) const {
    return const_head_rows<T>(tensor, b, length, head, s_.head_dim);
  }

  void kv_head(std::int64_t b, std::int64_t g, const std::vector<Interval>& tiles,
               Acc* scratch) const {
    const Buffers buffers(scratch, padded_dim_, s_.key_length);
    std::fill(buffers.dk, buffers.dk + s_.key_length * padded_dim_, Acc(0));
    std::fill(buffers.dv, buffers.dv + s_.key_length * padded_dim_, Acc(0));
    const std::int64_t group = s_.query_heads / s_.kv_heads;
    for (std::int64_t h = g * group; h < (g + 1) * group; ++h)
      for (const Interval tile : tiles) query_tile(b, h, g, tile, buffers);
    write_rows(buffers.dk, s_.key_length, head_rows<T>(a_.dk_TGK, b, s_.key_length, g, s_.head_dim),
               0);
    write_rows(buffers.dv, s_.key_length, head_rows<T>(a_.dv_TGK, b, s_.key_length, g, s_.head_dim),
               0);
  }

  void query_tile(std::int64_t b, std::int64_t h, std::int64_t g, Interval tile,
                  const Buffers& t) const {
    const std::int64_t count = tile.count(), dim = s_.head_dim, stride = padded_dim_;
    const std::int64_t lanes = padded_to_lanes<Acc>(count);
    load_queries(b, h, tile.begin, count, lanes, t);
    const HeadRows<const T> keys = rows(a_.k_TGK, b, s_.key_length, g);
    const HeadRows<const T> values = rows(a_.v_TGK, b, s_.key_length, g);
    KeyRuns<Acc>(allowed_, b, h, tile, t.first, t.last).for_each([&](const KeyRun<Acc>& run) {
      const auto k = view_rows<Acc, T>(keys, run.begin, run.count, dim, t.k);
      const auto v = view_rows<Acc, T>(values, run.begin, run.count, dim, t.v);
      kernels_.product(
          {run.count, lanes, dim, k.data, k.stride, 1, t.q_KQ, lanes, t.p, lanes, false});
      kernels_.product(
          {run.count, lanes, dim, v.data, v.stride, 1, t.do_KQ, lanes, t.dp, lanes, false});
      softmax_gradient(b, h, tile, run, lanes, t);
      Acc* const dk = t.dk + run.begin * stride;
      Acc* const dv = t.dv + run.begin * stride;
      kernels_.product({run.count, dim, count, t.p, lanes, 1, t.do_QK, stride, dv, stride, true});
      kernels_.product({run.count, dim, count, t.dp, lanes, 1, t.q_QK, stride, dk, stride, true});
      kernels_.product(
          {count, dim, run.count, t.dp, 1, lanes, k.data, k.stride, t.dq_QK, stride, true});
    });
    write_rows(t.dq_QK, count, head_rows<T>(a_.dq_THK, b, s_.query_length, h, dim), tile.begin);
  }

  void softmax_gradient(std::int64_t b, std::int64_t h, Interval tile, const KeyRun<Acc>& run,
                        std::int64_t lanes, const Buffers& t) const {
    Acc bias = 0, *bias_gradient = nullptr;
    if (allowed_.has_bias() && run.slot >= 0) {
      const std::int64_t slot = allowed_.slot_index(b, h, allowed_.group_of(tile.begin), run.slot);
      bias = a_.pattern.bias_BHNJ.data<Acc>()[slot];
      bias_gradient = a_.dbias_BHNJ.data<Acc>() + slot;
    }
    kernels_.softmax_gradient({run.count, lanes, static_cast<Acc>(s_.scale), bias, run.first,
                               run.last, t.lse, t.delta, t.p, t.dp, bias_gradient});
  }

  // q and do in both forms, lse and delta; dq cleared.
  void load_queries(std::int64_t b, std::int64_t h, std::int64_t begin, std::int64_t count,
                    std::int64_t lanes, const Buffers& t) const {
    const std::int64_t dim = s_.head_dim, stride = padded_dim_;
    load_rows<Acc, T>(rows(a_.q_THK, b, s_.query_length, h), begin, count, dim, t.q_QK, stride);
    load_rows<Acc, T>(rows(a_.do_THK, b, s_.query_length, h), begin, count, dim, t.do_QK, stride);
    transpose_rows(t.q_QK, stride, count, dim, t.q_KQ, lanes);
    transpose_rows(t.do_QK, stride, count, dim, t.do_KQ, lanes);
    std::fill(t.dq_QK, t.dq_QK + count * stride, Acc(0));
    std::fill(t.delta, t.delta + lanes, Acc(0));
    load_lse(a_.lse_BHS.data<Acc>() + (b * s_.query_heads + h) * s_.query_length + begin, count,
             lanes, t.lse);
    add_delta<Acc, T>(rows(a_.o_THK, b, s_.query_length, h), begin, count, dim, t.do_QK, stride,
                      t.delta);
  }

  void write_rows(const Acc* from, std::int64_t count, HeadRows<T> to, std::int64_t begin) const {
    for (std::int64_t i = 0; i < count; ++i)
      for (std::int64_t d = 0; d < s_.head_dim; ++d)
        to.row(begin + i)[d] = static_cast<T>(from[i * padded_dim_ + d]);
  }

  const AttentionBackward::Arguments& a_;
  const AttentionShape& s_;
  AllowedKeys allowed_;
  std::int64_t padded_dim_;
  const TileKernels<Acc>& kernels_;
};

}  // namespace

void attention_backward_tiles(const AttentionBackward::Arguments& arguments,
                              const CpuKernels& kernels, ExecutionContext& context) {
  visit_floating(arguments.q_THK.dtype(),
                 [&](auto type) { Backward<decltype(type)>(arguments, kernels).run(context); });
}

}  // namespace filigree
