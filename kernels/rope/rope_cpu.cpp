#include <algorithm>
#include <cmath>

#include "kernels/elementwise/floating.hpp"
#include "kernels/elementwise/loops.hpp"
#include "kernels/rope/rope.hpp"

namespace filigree {
namespace {

// Cosines and sines by row. Batches repeat their positions, so a row belongs to a position where
// the positions of the call lie close together, and to a token where they do not: never more rows
// than tokens.
struct Turns {
  Tensor cosine, sine;  // [rows, K/2], accumulation dtype
  bool by_position = false;
  std::int64_t first_position = 0;
  std::int64_t row(std::int64_t token, const std::int32_t* positions) const {
    return by_position ? positions[token] - first_position : token;
  }
};

template <class A>
Turns make_turns(const Rope::Arguments& a, const ExecutionContext& context) {
  const std::int64_t tokens = a.positions_T.numel(), pairs = a.head_dim / 2;
  const auto* positions = a.positions_T.data<std::int32_t>();
  const auto [low, high] = std::minmax_element(positions, positions + tokens);
  Turns turns;
  turns.first_position = *low;
  const std::int64_t span = std::int64_t{*high} - *low + 1;
  turns.by_position = span <= tokens;
  const std::int64_t rows = turns.by_position ? span : tokens;
  turns.cosine = context.empty({rows, pairs}, dtype_of<A>);
  turns.sine = context.empty({rows, pairs}, dtype_of<A>);
  const Tensor frequencies = context.empty({pairs}, DType::f64);
  double* frequency = frequencies.data<double>();
  for (std::int64_t i = 0; i < pairs; ++i) frequency[i] = a.frequencies.of(i, a.head_dim);
  A *cosine = turns.cosine.data<A>(), *sine = turns.sine.data<A>();
  constexpr std::int64_t kTurnCost =
      16;  // a sine and a cosine take as long as moving so many elements
  const auto fill = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t position = turns.by_position ? turns.first_position + row : positions[row];
      for (std::int64_t i = 0; i < pairs; ++i) {
        const double angle = static_cast<double>(position) * frequency[i];
        cosine[row * pairs + i] = static_cast<A>(std::cos(angle));
        sine[row * pairs + i] = static_cast<A>(a.inverse ? -std::sin(angle) : std::sin(angle));
      }
    }
  };
  for_each_chunk(context, rows, rows_per_chunk(kTurnCost * pairs), kTurnCost * pairs, fill);
  return turns;
}

template <class T>
void rotate(const Rope::Arguments& a, const ExecutionContext& context) {
  using A = Accumulator<T>;
  if (a.x_THK.numel() == 0) return;
  const std::int64_t tokens = a.positions_T.numel(), K = a.head_dim, pairs = K / 2;
  const std::int64_t width = a.x_THK.numel() / tokens;  // heads * K
  const auto* positions = a.positions_T.data<std::int32_t>();
  const Turns turns = make_turns<A>(a, context);
  const T* x = a.x_THK.data<T>();
  T* y = a.y_THK.data<T>();
  const auto rows = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      const A* cosine = turns.cosine.data<A>() + turns.row(t, positions) * pairs;
      const A* sine = turns.sine.data<A>() + turns.row(t, positions) * pairs;
      for (std::int64_t offset = t * width; offset < (t + 1) * width; offset += K) {
        const T *x_low = x + offset, *x_high = x_low + pairs;
        T *y_low = y + offset, *y_high = y_low + pairs;
        vector_loop(0, pairs, [=](std::int64_t i) {
          const A low = widened(x_low[i]), high = widened(x_high[i]);
          y_low[i] = T(low * cosine[i] - high * sine[i]);
          y_high[i] = T(high * cosine[i] + low * sine[i]);
        });
      }
    }
  };
  for_each_chunk(context, tokens, rows_per_chunk(width), width, rows);
}

}  // namespace

void Rope::cpu(const Arguments& a, ExecutionContext& context) {
  visit_floating(a.x_THK.dtype(), [&](auto type) { rotate<decltype(type)>(a, context); });
}

}  // namespace filigree
