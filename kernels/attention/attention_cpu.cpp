// Forward attention in tiles of 64 queries by 64 keys (Dao et al. 2022), one query per vector lane:
// scores are kept as [key, query], so that the softmax reduces across registers and never within
// one.
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/attention/attention_implementations.hpp"
#include "kernels/attention/attention_tiles.hpp"
#include "kernels/cpu/parallel_for.hpp"

namespace filigree {

namespace {

// Below this many queries lanes would stay empty: each query is then a row of dot products, and the
// keys are split over threads instead.
constexpr std::int64_t kFewQueries = 4;
constexpr std::int64_t kRowTile = 256;  // keys per task of that form

template <class T>
class Forward {
 public:
  using Acc = Accumulator<T>;
  Forward(const AttentionForward::Arguments& a, const CpuKernels& kernels)
      : a_(a),
        s_(a.shape),
        padded_dim_(padded_to_lanes<Acc>(s_.head_dim)),
        kernels_(kernels.of<Acc>()) {}

  void run(ExecutionContext& context) const {
    if (s_.query_length <= kFewQueries)
      run_rows(context);
    else
      run_tiles(context);
  }

 private:
  static constexpr Acc kMinusInfinity = -std::numeric_limits<Acc>::infinity();

  HeadRows<const T> queries(std::int64_t b, std::int64_t h) const {
    return constant(head_rows<T>(a_.q_THK, b, s_.query_length, h, s_.head_dim));
  }
  HeadRows<const T> keys(std::int64_t b, std::int64_t g) const {
    return constant(head_rows<T>(a_.k_TGK, b, s_.key_length, g, s_.head_dim));
  }
  HeadRows<const T> values(std::int64_t b, std::int64_t g) const {
    return constant(head_rows<T>(a_.v_TGK, b, s_.key_length, g, s_.head_dim));
  }
  static HeadRows<const T> constant(HeadRows<T> rows) { return {rows.data, rows.stride}; }

  Acc* lse(std::int64_t b, std::int64_t h) const {
    return a_.lse_BHS.data<Acc>() + (b * s_.query_heads + h) * s_.query_length;
  }

  void run_tiles(ExecutionContext& context) const {
    const std::int64_t tiles = (s_.query_length + kQueryTile - 1) / kQueryTile;
    const Scratch<Acc> scratch(
        context, context.num_threads,
        (3 * padded_dim_ + kKeyTile + 3) * kQueryTile + 2 * kKeyTile * padded_dim_);
    parallel_for(s_.batch * s_.query_heads * tiles, context.num_threads,
                 [&](std::int64_t task, int thread) {
                   // The last queries see the most keys: started first, they do not become the tail
                   // that others wait for.
                   const std::int64_t tile = tiles - 1 - task % tiles, head = task / tiles;
                   query_tile(head / s_.query_heads, head % s_.query_heads, tile * kQueryTile,
                              scratch.of(thread));
                 });
  }

  void query_tile(std::int64_t b, std::int64_t h, std::int64_t begin, Acc* scratch) const {
    const std::int64_t count = std::min(kQueryTile, s_.query_length - begin);
    const std::int64_t lanes = padded_to_lanes<Acc>(count), dim = s_.head_dim;
    const std::int64_t g = h / (s_.query_heads / s_.kv_heads);
    Pieces<Acc> pieces(scratch);
    Acc* const rows = pieces.take(kQueryTile * padded_dim_);
    Acc* const q_KQ = pieces.take(dim * kQueryTile);
    Acc* const o_KQ = pieces.take(dim * kQueryTile);
    Acc* const scores = pieces.take(kKeyTile * kQueryTile);
    Acc* const maximum = pieces.take(kQueryTile);
    Acc* const sum = pieces.take(kQueryTile);
    Acc* const allowed = pieces.take(kQueryTile);
    Acc* const k_buffer = pieces.take(kKeyTile * padded_dim_);
    Acc* const v_buffer = pieces.take(kKeyTile * padded_dim_);

    load_rows<Acc, T>(queries(b, h), begin, count, dim, rows, padded_dim_);
    transpose_rows(rows, padded_dim_, count, dim, q_KQ, lanes);
    std::fill(o_KQ, o_KQ + dim * lanes, Acc(0));
    std::fill(maximum, maximum + lanes, kMinusInfinity);
    std::fill(sum, sum + lanes, Acc(0));
    for_each_key_tile(s_, begin, begin + count, kKeyTile, [&](const KeyTile& tile) {
      const auto k = view_rows<Acc, T>(keys(b, g), tile.begin, tile.count, dim, k_buffer);
      const auto v = view_rows<Acc, T>(values(b, g), tile.begin, tile.count, dim, v_buffer);
      kernels_.product(
          {tile.count, lanes, dim, k.data, k.stride, 1, q_KQ, lanes, scores, lanes, false});
      kernels_.softmax({tile.count, lanes, dim, static_cast<Acc>(s_.scale),
                        allowed_keys(s_, tile, begin, lanes, allowed), scores, o_KQ, maximum, sum});
      kernels_.product(
          {dim, lanes, tile.count, v.data, 1, v.stride, scores, lanes, o_KQ, lanes, true});
    });
    const HeadRows<T> out = head_rows<T>(a_.o_THK, b, s_.query_length, h, dim);
    for (std::int64_t i = 0; i < count; ++i) {
      finish_row(o_KQ + i, lanes, maximum[i], sum[i], out.row(begin + i), lse(b, h) + begin + i);
    }
  }

  // o = values / sum, lse = maximum + log(sum); zeros and -infinity for a query that saw no key.
  void finish_row(const Acc* values, std::int64_t stride, Acc maximum, Acc sum, T* o,
                  Acc* lse) const {
    const bool empty = maximum == kMinusInfinity;
    for (std::int64_t d = 0; d < s_.head_dim; ++d)
      o[d] = static_cast<T>(empty ? Acc(0) : values[d * stride] / sum);
    *lse = empty ? kMinusInfinity : maximum + std::log(sum);
  }

  // One query's softmax over one run of keys: values_K weighted with exp(score - maximum), and the
  // sum of those.
  struct Partial {
    Acc* values;
    Acc maximum, sum;
  };

  void run_rows(ExecutionContext& context) const {
    std::vector<KeyTile> tiles;
    for_each_key_tile(s_, 0, s_.query_length, kRowTile,
                      [&](const KeyTile& tile) { tiles.push_back(tile); });
    const auto tile_count = static_cast<std::int64_t>(tiles.size());
    const std::int64_t rows = s_.batch * s_.query_heads * s_.query_length;
    const Tensor values = context.empty({rows * tile_count, s_.head_dim}, dtype_of<Acc>);
    std::vector<Partial> partials(rows * tile_count);
    for (std::size_t p = 0; p < partials.size(); ++p)
      partials[p] = {values.data<Acc>() + p * s_.head_dim, kMinusInfinity, Acc(0)};
    const Scratch<Acc> scratch(context, context.num_threads,
                               kRowTile + padded_dim_ * (2 * kRowTile + 1));
    parallel_for(s_.batch * s_.kv_heads * tile_count, context.num_threads,
                 [&](std::int64_t task, int thread) {
                   const std::int64_t t = task % tile_count, head = task / tile_count;
                   row_tile(head / s_.kv_heads, head % s_.kv_heads, tiles[t], scratch.of(thread),
                            partials.data() + t, tile_count);
                 });
    parallel_for(rows, context.num_threads, [&](std::int64_t row, int thread) {
      merge_row(row, partials.data() + row * tile_count, tile_count, scratch.of(thread));
    });
  }

  // Every query of every head of group g against one run of keys, which is read once.
  void row_tile(std::int64_t b, std::int64_t g, const KeyTile& tile, Acc* scratch,
                Partial* partials, std::int64_t partials_stride) const {
    const std::int64_t group = s_.query_heads / s_.kv_heads;
    Pieces<Acc> pieces(scratch);
    Acc* const q = pieces.take(padded_dim_);
    Acc* const scores = pieces.take(kRowTile);
    const auto k = view_rows<Acc, T>(keys(b, g), tile.begin, tile.count, s_.head_dim,
                                     pieces.take(kRowTile * padded_dim_));
    const auto v = view_rows<Acc, T>(values(b, g), tile.begin, tile.count, s_.head_dim,
                                     pieces.take(kRowTile * padded_dim_));
    for (std::int64_t h = g * group; h < (g + 1) * group; ++h) {
      for (std::int64_t i = 0; i < s_.query_length; ++i) {
        const std::int64_t seen =
            std::clamp<std::int64_t>(visible_keys(s_, i) - tile.begin, 0, tile.count);
        if (seen == 0) continue;
        load_rows<Acc, T>(queries(b, h), i, 1, s_.head_dim, q, padded_dim_);
        kernels_.row_scores(
            {seen, s_.head_dim, static_cast<Acc>(s_.scale), q, k.data, k.stride, scores});
        Partial& partial =
            partials[((b * s_.query_heads + h) * s_.query_length + i) * partials_stride];
        partial.maximum = *std::max_element(scores, scores + seen);
        partial.sum = kernels_.row_values(
            {seen, s_.head_dim, partial.maximum, scores, v.data, v.stride, partial.values});
      }
    }
  }

  // Adds the partial results of a row in ascending order of keys.
  void merge_row(std::int64_t row, const Partial* partials, std::int64_t count, Acc* total) const {
    const std::int64_t i = row % s_.query_length, head = row / s_.query_length;
    const std::int64_t b = head / s_.query_heads, h = head % s_.query_heads;
    Acc maximum = kMinusInfinity, sum = 0;
    for (std::int64_t p = 0; p < count; ++p) maximum = std::max(maximum, partials[p].maximum);
    std::fill(total, total + s_.head_dim, Acc(0));
    for (std::int64_t p = 0; p < count; ++p) {
      if (partials[p].sum == 0) continue;
      const Acc weight = std::exp(partials[p].maximum - maximum);
      sum += weight * partials[p].sum;
      for (std::int64_t d = 0; d < s_.head_dim; ++d) total[d] += weight * partials[p].values[d];
    }
    const HeadRows<T> out = head_rows<T>(a_.o_THK, b, s_.query_length, h, s_.head_dim);
    finish_row(total, 1, maximum, sum, out.row(i), lse(b, h) + i);
  }

  const AttentionForward::Arguments& a_;
  const AttentionShape& s_;
  std::int64_t padded_dim_;
  const TileKernels<Acc>& kernels_;
};

void run(const AttentionForward::Arguments& arguments, const CpuKernels& kernels,
         ExecutionContext& context) {
  check_arguments(arguments);
  visit_floating(arguments.q_THK.dtype(),
                 [&](auto type) { Forward<decltype(type)>(arguments, kernels).run(context); });
}

}  // namespace

void attention_forward_cpu(const AttentionForward::Arguments& arguments,
                           ExecutionContext& context) {
  run(arguments, cpu_kernels(), context);
}

void attention_forward_portable(const AttentionForward::Arguments& arguments,
                                ExecutionContext& context) {
  run(arguments, *available_cpu_kernels()[0], context);
}

}  // namespace filigree
