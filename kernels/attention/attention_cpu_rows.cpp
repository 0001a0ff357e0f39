// Forward attention for a few queries, as in decoding: each is a row of dot products over the keys
// that it reads, in runs of at most 256. Dense, a run is read once for all heads of a group and
// threads share the keys; with a pattern each row has runs of its own and threads share the rows.
#include <limits>
#include <vector>

#include "kernels/attention/attention_cpu.hpp"
#include "kernels/attention/attention_tiles.hpp"
#include "kernels/cpu/parallel_for.hpp"

namespace filigree {

namespace {

constexpr std::int64_t kRowTile = 256;  // keys per run

template <class T>
class Rows {
 public:
  using Acc = Accumulator<T>;
  Rows(const AttentionForward::Arguments& a, const CpuKernels& kernels)
      : a_(a),
        s_(a.shape),
        allowed_(a.shape, a.pattern),
        padded_dim_(padded_to_lanes<Acc>(s_.head_dim)),
        kernels_(kernels.of<Acc>()) {}

  void run(ExecutionContext& context) const {
    if (a_.pattern.is_dense())
      run_dense(context);
    else
      run_pattern(context);
  }

 private:
  static constexpr Acc kMinusInfinity = -std::numeric_limits<Acc>::infinity();

  // One query's softmax over one run of keys: values_K weighted with exp(score - maximum), and the
  // sum of those.
  struct Partial {
    Acc* values;
    Acc maximum, sum;
  };

  // The buffers of one thread.
  struct Buffers {
    Buffers(Acc* scratch, std::int64_t padded_dim) {
      Pieces<Acc> pieces(scratch);
      for (Acc** buffer : {&q, &values, &total}) *buffer = pieces.take(padded_dim);
      scores = pieces.take(kRowTile);
      for (Acc** buffer : {&k, &v}) *buffer = pieces.take(kRowTile * padded_dim);
    }
    Acc *q, *values, *total, *scores, *k, *v;
  };
  Scratch<Acc> scratch(const ExecutionContext& context) const {
    return Scratch<Acc>(context, context.num_threads, kRowTile + padded_dim_ * (2 * kRowTile + 3));
  }

  HeadRows<const T> keys(std::int64_t b, std::int64_t g) const {
    return const_head_rows<T>(a_.k_TGK, b, s_.key_length, g, s_.head_dim);
  }
  HeadRows<const T> values(std::int64_t b, std::int64_t g) const {
    return const_head_rows<T>(a_.v_TGK, b, s_.key_length, g, s_.head_dim);
  }
  void load_query(std::int64_t b, std::int64_t h, std::int64_t i, Acc* q) const {
    load_rows<Acc, T>(const_head_rows<T>(a_.q_THK, b, s_.query_length, h, s_.head_dim), i, 1,
                      s_.head_dim, q, padded_dim_);
  }

  void run_dense(ExecutionContext& context) const {
    const Interval reach{0,
                         s_.query_length == 0 ? 0 : allowed_.reachable(0, s_.query_length - 1).end};
    const std::int64_t tiles = (reach.count() + kRowTile - 1) / kRowTile;
    const std::int64_t rows = s_.batch * s_.query_heads * s_.query_length;
    const Tensor values = context.empty({rows * tiles, s_.head_dim}, dtype_of<Acc>);
    std::vector<Partial> partials(rows * tiles);
    for (std::size_t p = 0; p < partials.size(); ++p)
      partials[p] = {values.data<Acc>() + p * s_.head_dim, kMinusInfinity, Acc(0)};
    const Scratch<Acc> buffers = scratch(context);
    parallel_for(s_.batch * s_.kv_heads * tiles, context.num_threads,
                 [&](std::int64_t task, int thread) {
                   const std::int64_t t = task % tiles, head = task / tiles;
                   const Interval run{t * kRowTile, std::min((t + 1) * kRowTile, reach.end)};
                   dense_run(head / s_.kv_heads, head % s_.kv_heads, run,
                             Buffers(buffers.of(thread), padded_dim_), partials.data() + t, tiles);
                 });
    parallel_for(rows, context.num_threads, [&](std::int64_t row, int thread) {
      merge_row(row, partials.data() + row * tiles, tiles,
                Buffers(buffers.of(thread), padded_dim_).total);
    });
  }

  // Every query of every head of group g against one run of keys, which is read once.
  void dense_run(std::int64_t b, std::int64_t g, Interval run, const Buffers& t, Partial* partials,
                 std::int64_t partials_stride) const {
    const std::int64_t group = s_.query_heads / s_.kv_heads;
    const auto k = view_rows<Acc, T>(keys(b, g), run.begin, run.count(), s_.head_dim, t.k);
    const auto v = view_rows<Acc, T>(values(b, g), run.begin, run.count(), s_.head_dim, t.v);
    for (std::int64_t h = g * group; h < (g + 1) * group; ++h) {
      for (std::int64_t i = 0; i < s_.query_length; ++i) {
        const std::int64_t seen = intersect(allowed_.reachable(b, i), run).count();
        if (seen == 0) continue;
        load_query(b, h, i, t.q);
        attend(seen, Acc(0), k, v, t,
               &partials[((b * s_.query_heads + h) * s_.query_length + i) * partials_stride]);
      }
    }
  }

  // The query in t.q against the first `count` keys of a run.
  void attend(std::int64_t count, Acc bias, TileView<Acc> k, TileView<Acc> v, const Buffers& t,
              Partial* partial) const {
    kernels_.row_scores(
        {count, s_.head_dim, static_cast<Acc>(s_.scale), t.q, k.data, k.stride, t.scores});
    if (bias != 0)
      for (std::int64_t j = 0; j < count; ++j) t.scores[j] += bias;
    partial->maximum = *std::max_element(t.scores, t.scores + count);
    if (partial->maximum == kMinusInfinity) return;
    partial->sum = kernels_.row_values(
        {count, s_.head_dim, partial->maximum, t.scores, v.data, v.stride, partial->values});
  }

  // Adds the partial results of a row in ascending order of keys.
  void merge_row(std::int64_t row, const Partial* partials, std::int64_t count, Acc* total) const {
    Acc maximum = kMinusInfinity, sum = 0;
    for (std::int64_t p = 0; p < count; ++p) maximum = std::max(maximum, partials[p].maximum);
    std::fill(total, total + s_.head_dim, Acc(0));
    for (std::int64_t p = 0; p < count; ++p) {
      if (partials[p].sum == 0) continue;
      const Acc weight = std::exp(partials[p].maximum - maximum);
      sum += weight * partials[p].sum;
      for (std::int64_t d = 0; d < s_.head_dim; ++d) total[d] += weight * partials[p].values[d];
    }
    write_row(row, total, maximum, sum);
  }

  void write_row(std::int64_t row, const Acc* total, Acc maximum, Acc sum) const {
    const std::int64_t i = row % s_.query_length, head = row / s_.query_length;
    const HeadRows<T> out = head_rows<T>(a_.o_THK, head / s_.query_heads, s_.query_length,
                                         head % s_.query_heads, s_.head_dim);
    finish_row(total, 1, s_.head_dim, maximum, sum, out.row(i), a_.lse_BHS.data<Acc>() + row);
  }

  void run_pattern(ExecutionContext& context) const {
    const Scratch<Acc> buffers = scratch(context);
    parallel_for(s_.batch * s_.query_heads * s_.query_length, context.num_threads,
                 [&](std::int64_t row, int thread) {
                   pattern_row(row, Buffers(buffers.of(thread), padded_dim_));
                 });
  }

  // Merges run after run into t.total.
  void pattern_row(std::int64_t row, const Buffers& t) const {
    const std::int64_t i = row % s_.query_length, head = row / s_.query_length;
    const std::int64_t b = head / s_.query_heads, h = head % s_.query_heads;
    load_query(b, h, i, t.q);
    std::fill(t.total, t.total + s_.head_dim, Acc(0));
    Acc maximum = kMinusInfinity, sum = 0;
    const auto merge = [&](Interval run, Acc bias) {
      const std::int64_t g = h / (s_.query_heads / s_.kv_heads);
      Partial partial{t.values, kMinusInfinity, Acc(0)};
      attend(run.count(), bias,
             view_rows<Acc, T>(keys(b, g), run.begin, run.count(), s_.head_dim, t.k),
             view_rows<Acc, T>(values(b, g), run.begin, run.count(), s_.head_dim, t.v), t,
             &partial);
      if (partial.sum == 0) return;
      const Acc larger = std::max(maximum, partial.maximum);
      const Acc old_weight = std::exp(maximum - larger);
      const Acc weight = std::exp(partial.maximum - larger);
      sum = sum * old_weight + weight * partial.sum;
      for (std::int64_t d = 0; d < s_.head_dim; ++d)
        t.total[d] = t.total[d] * old_weight + weight * t.values[d];
      maximum = larger;
    };
    allowed_.for_each_block(b, h, {i, i + 1}, [&](const KeyBlock& block) {
      for (const Interval piece : allowed_.pieces(b, i, block.keys, block.chosen).piece)
        for (std::int64_t begin = piece.begin; begin < piece.end; begin += kRowTile)
          merge({begin, std::min(begin + kRowTile, piece.end)}, bias_of(b, h, i, block.slot));
    });
    write_row(row, t.total, maximum, sum);
  }

  Acc bias_of(std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t slot) const {
    if (!allowed_.has_bias() || slot < 0) return 0;
    return a_.pattern.bias_BHNJ.data<Acc>()[allowed_.slot_index(b, h, allowed_.group_of(i), slot)];
  }

  const AttentionForward::Arguments& a_;
  const AttentionShape& s_;
  AllowedKeys allowed_;
  std::int64_t padded_dim_;
  const TileKernels<Acc>& kernels_;
};

}  // namespace

void attention_forward_rows(const AttentionForward::Arguments& arguments, const CpuKernels& kernels,
                            ExecutionContext& context) {
  visit_floating(arguments.q_THK.dtype(),
                 [&](auto type) { Rows<decltype(type)>(arguments, kernels).run(context); });
}

}  // namespace filigree
