// Backward attention in tiles of 64 queries by 64 keys. Scores are recomputed; as in the forward
// they are kept as [key, query]. One task owns a key/value head, so that dk and dv are added in one
// fixed order (heads of the group, then queries, ascending) whatever the number of threads.
#include <cmath>

#include "kernels/attention/attention_implementations.hpp"
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
        padded_dim_(padded_to_lanes<Acc>(s_.head_dim)),
        kernels_(kernels.of<Acc>()) {}

  void run(ExecutionContext& context) const {
    const Scratch<Acc> scratch(
        context, context.num_threads,
        kQueryTile * (7 * padded_dim_ + 2 * kKeyTile + 3) + 2 * s_.key_length * padded_dim_);
    parallel_for(s_.batch * s_.kv_heads, context.num_threads, [&](std::int64_t task, int thread) {
      kv_head(task / s_.kv_heads, task % s_.kv_heads, scratch.of(thread));
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
      for (Acc** buffer : {&lse, &delta, &allowed}) *buffer = pieces.take(kQueryTile);
      for (Acc** buffer : {&dk, &dv}) *buffer = pieces.take(key_length * padded_dim);
    }
    Acc *q_QK, *do_QK, *q_KQ, *do_KQ, *dq_QK, *k, *v, *p, *dp, *lse, *delta, *allowed, *dk, *dv;
  };

  HeadRows<const T> rows(const Tensor& tensor, std::int64_t b, std::int64_t length,
                         std::int64_t head) const {
    const HeadRows<T> result = head_rows<T>(tensor, b, length, head, s_.head_dim);
    return {result.data, result.stride};
  }

  void kv_head(std::int64_t b, std::int64_t g, Acc* scratch) const {
    const Buffers buffers(scratch, padded_dim_, s_.key_length);
    std::fill(buffers.dk, buffers.dk + s_.key_length * padded_dim_, Acc(0));
    std::fill(buffers.dv, buffers.dv + s_.key_length * padded_dim_, Acc(0));
    const std::int64_t group = s_.query_heads / s_.kv_heads;
    for (std::int64_t h = g * group; h < (g + 1) * group; ++h)
      for (std::int64_t begin = 0; begin < s_.query_length; begin += kQueryTile)
        query_tile(b, h, g, begin, buffers);
    write_rows(buffers.dk, s_.key_length, head_rows<T>(a_.dk_TGK, b, s_.key_length, g, s_.head_dim),
               0);
    write_rows(buffers.dv, s_.key_length, head_rows<T>(a_.dv_TGK, b, s_.key_length, g, s_.head_dim),
               0);
  }

  void query_tile(std::int64_t b, std::int64_t h, std::int64_t g, std::int64_t begin,
                  const Buffers& t) const {
    const std::int64_t count = std::min(kQueryTile, s_.query_length - begin);
    const std::int64_t lanes = padded_to_lanes<Acc>(count), dim = s_.head_dim, stride = padded_dim_;
    load_queries(b, h, begin, count, lanes, t);
    const HeadRows<const T> keys = rows(a_.k_TGK, b, s_.key_length, g);
    const HeadRows<const T> values = rows(a_.v_TGK, b, s_.key_length, g);
    for_each_key_tile(s_, begin, begin + count, kKeyTile, [&](const KeyTile& tile) {
      const auto k = view_rows<Acc, T>(keys, tile.begin, tile.count, dim, t.k);
      const auto v = view_rows<Acc, T>(values, tile.begin, tile.count, dim, t.v);
      kernels_.product(
          {tile.count, lanes, dim, k.data, k.stride, 1, t.q_KQ, lanes, t.p, lanes, false});
      kernels_.product(
          {tile.count, lanes, dim, v.data, v.stride, 1, t.do_KQ, lanes, t.dp, lanes, false});
      kernels_.softmax_gradient({tile.count, lanes, static_cast<Acc>(s_.scale),
                                 allowed_keys(s_, tile, begin, lanes, t.allowed), t.lse, t.delta,
                                 t.p, t.dp});
      Acc* const dk = t.dk + tile.begin * stride;
      Acc* const dv = t.dv + tile.begin * stride;
      kernels_.product({tile.count, dim, count, t.p, lanes, 1, t.do_QK, stride, dv, stride, true});
      kernels_.product({tile.count, dim, count, t.dp, lanes, 1, t.q_QK, stride, dk, stride, true});
      kernels_.product(
          {count, dim, tile.count, t.dp, 1, lanes, k.data, k.stride, t.dq_QK, stride, true});
    });
    write_rows(t.dq_QK, count, head_rows<T>(a_.dq_THK, b, s_.query_length, h, dim), begin);
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
    std::fill(t.lse, t.lse + lanes, Acc(0));
    std::fill(t.delta, t.delta + lanes, Acc(0));
    std::copy_n(a_.lse_BHS.data<Acc>() + (b * s_.query_heads + h) * s_.query_length + begin, count,
                t.lse);
    add_delta(rows(a_.o_THK, b, s_.query_length, h), begin, count, t);
  }

  // delta[i] += <do[i], o[i]>, by the chain of multiply-adds of the tile product: a query whose
  // softmax has a single key then gets dp - delta = 0 exactly. Eight queries at a time keep eight
  // chains in flight.
  void add_delta(HeadRows<const T> out, std::int64_t begin, std::int64_t count,
                 const Buffers& t) const {
    constexpr std::int64_t kBlock = 8;
    for (std::int64_t block = 0; block < count; block += kBlock)
      for (std::int64_t d = 0; d < s_.head_dim; ++d)
        for (std::int64_t i = block; i < std::min(block + kBlock, count); ++i)
          t.delta[i] = std::fma(t.do_QK[i * padded_dim_ + d],
                                static_cast<Acc>(out.row(begin + i)[d]), t.delta[i]);
  }

  void write_rows(const Acc* from, std::int64_t count, HeadRows<T> to, std::int64_t begin) const {
    for (std::int64_t i = 0; i < count; ++i)
      for (std::int64_t d = 0; d < s_.head_dim; ++d)
        to.row(begin + i)[d] = static_cast<T>(from[i * padded_dim_ + d]);
  }

  const AttentionBackward::Arguments& a_;
  const AttentionShape& s_;
  std::int64_t padded_dim_;
  const TileKernels<Acc>& kernels_;
};

void run(const AttentionBackward::Arguments& arguments, const CpuKernels& kernels,
         ExecutionContext& context) {
  check_arguments(arguments);
  visit_floating(arguments.q_THK.dtype(),
                 [&](auto type) { Backward<decltype(type)>(arguments, kernels).run(context); });
}

}  // namespace

void attention_backward_cpu(const AttentionBackward::Arguments& arguments,
                            ExecutionContext& context) {
  run(arguments, cpu_kernels(), context);
}

void attention_backward_portable(const AttentionBackward::Arguments& arguments,
                                 ExecutionContext& context) {
  run(arguments, *available_cpu_kernels()[0], context);
}

}  // namespace filigree
