#include <algorithm>

#include "kernels/attention/attention_tiles.hpp"
#include "kernels/elementwise/loops.hpp"
#include "kernels/gate/head_projection.hpp"
#include "kernels/gate/operands.hpp"

namespace filigree {
namespace {

constexpr std::int64_t kRows = 96;       // tokens of an output tile, a multiple of register blocks
constexpr std::int64_t kChunk = 256;     // tokens whose rows of x and dy stay in the second cache
constexpr std::int64_t kPartial = 4096;  // tokens of one partial sum of the weight gradient

// y[t,h,:] for the tokens of one tile. w_KE: W_h^T, packed.
template <class T>
void forward(const HeadProjection::Arguments& a, const ExecutionContext& context) {
  using A = Accumulator<T>;
  const auto sizes = head_projection_sizes(a.heads, a.input_heads, a.x_THK, a.w_HEK);
  const std::int64_t E = sizes.out, K = sizes.in, lanes = padded_to_lanes<A>(E);
  const std::int64_t tiles = (sizes.tokens + kRows - 1) / kRows;
  const int threads = threads_for(context, 2 * sizes.tokens * a.w_HEK.numel());
  const Tensor packed = context.empty({a.heads, K, lanes}, dtype_of<A>);
  const Scratch<A> scratch(context, threads, kRows * (lanes + padded_to_lanes<A>(K)));
  parallel_for(a.heads, threads, [&](std::int64_t h, int) {
    pack_transposed<A, T>({a.w_HEK.data<T>() + h * E * K, K}, E, K,
                          packed.data<A>() + h * K * lanes, lanes);
  });
  parallel_for(a.heads * tiles, threads, [&](std::int64_t task, int thread) {
    const std::int64_t h = task % a.heads, begin = task / a.heads * kRows;
    const std::int64_t count = std::min(kRows, sizes.tokens - begin);
    Pieces<A> pieces(scratch.of(thread));
    A* const sums = pieces.take(kRows * lanes);
    const auto x = head_rows<const T>(a.x_THK, h / sizes.shared, K);
    const auto left = operand<A, T>(x, begin, count, K, pieces.take(kRows * padded_to_lanes<A>(K)));
    cpu_kernels().of<A>().product({count, E, K, left.data, left.stride, 1,
                                   packed.data<A>() + h * K * lanes, lanes, sums, lanes, false});
    store_rows<A, T>(sums, lanes, count, E, A{1}, head_rows<T>(a.y_THE, h, E), begin, false);
  });
}

// The heads of an input head lie side by side in dy and in w, so their sum is one product.
template <class T>
void input_gradient(const HeadProjectionInputGradient::Arguments& a,
                    const ExecutionContext& context) {
  using A = Accumulator<T>;
  const auto sizes = head_projection_sizes(a.heads, a.input_heads, a.dx_THK, a.w_HEK);
  const std::int64_t inner = sizes.shared * sizes.out, K = sizes.in, lanes = padded_to_lanes<A>(K);
  const std::int64_t tiles = (sizes.tokens + kRows - 1) / kRows;
  const int threads = threads_for(context, 2 * sizes.tokens * a.w_HEK.numel());
  const Tensor packed = context.empty({a.w_HEK.dim(0), lanes}, dtype_of<A>);
  const Scratch<A> scratch(context, threads, kRows * (lanes + padded_to_lanes<A>(inner)));
  load_rows<A, T>({a.w_HEK.data<T>(), K}, 0, a.w_HEK.dim(0), K, packed.data<A>(), lanes);
  parallel_for(a.input_heads * tiles, threads, [&](std::int64_t task, int thread) {
    const std::int64_t hx = task % a.input_heads, begin = task / a.input_heads * kRows;
    const std::int64_t count = std::min(kRows, sizes.tokens - begin);
    Pieces<A> pieces(scratch.of(thread));
    A* const sums = pieces.take(kRows * lanes);
    const auto dy = head_rows<const T>(a.dy_THE, hx, inner);
    const auto left =
        operand<A, T>(dy, begin, count, inner, pieces.take(kRows * padded_to_lanes<A>(inner)));
    cpu_kernels().of<A>().product({count, K, inner, left.data, left.stride, 1,
                                   packed.data<A>() + hx * inner * lanes, lanes, sums, lanes,
                                   false});
    store_rows<A, T>(sums, lanes, count, K, A{1}, head_rows<T>(a.dx_THK, hx, K), begin,
                     a.accumulate);
  });
}

// sum over the tokens [begin, end) of dy[t,h,:] x[t,hx,:]^T.
template <class T, class A>
void sum_products(const HeadProjectionWeightGradient::Arguments& a,
                  const HeadProjectionSizes& sizes, std::int64_t h, std::int64_t begin,
                  std::int64_t end, Pieces<A> pieces, A* sums, std::int64_t lanes) {
  const auto dy = head_rows<const T>(a.dy_THE, h, sizes.out);
  const auto x = head_rows<const T>(a.x_THK, h / sizes.shared, sizes.in);
  A* const left_buffer = pieces.take(kChunk * padded_to_lanes<A>(sizes.out));
  A* const right_buffer = pieces.take(kChunk * lanes);
  for (std::int64_t t = begin; t < end; t += kChunk) {
    const std::int64_t count = std::min(kChunk, end - t);
    const auto left = operand<A, T>(dy, t, count, sizes.out, left_buffer);
    const auto right = view_rows<A, T>(x, t, count, sizes.in, right_buffer);
    cpu_kernels().of<A>().product({sizes.out, sizes.in, count, left.data, 1, left.stride,
                                   right.data, right.stride, sums, lanes, t > begin});
  }
}

// Partial sums over fixed runs of tokens, added in ascending order.
template <class T>
void weight_gradient(const HeadProjectionWeightGradient::Arguments& a,
                     const ExecutionContext& context) {
  using A = Accumulator<T>;
  const auto sizes = head_projection_sizes(a.heads, a.input_heads, a.x_THK, a.dw_HEK);
  const std::int64_t E = sizes.out, K = sizes.in, lanes = padded_to_lanes<A>(K);
  const std::int64_t partials = (sizes.tokens + kPartial - 1) / kPartial;
  const int threads = threads_for(context, 2 * sizes.tokens * a.dw_HEK.numel());
  const Tensor sums = context.empty({a.heads, partials, E, lanes}, dtype_of<A>);
  const Scratch<A> scratch(context, threads, kChunk * (lanes + padded_to_lanes<A>(E)));
  parallel_for(a.heads * partials, threads, [&](std::int64_t task, int thread) {
    const std::int64_t begin = task % partials * kPartial;
    sum_products<T, A>(a, sizes, task / partials, begin, std::min(sizes.tokens, begin + kPartial),
                       Pieces<A>(scratch.of(thread)), sums.data<A>() + task * E * lanes, lanes);
  });
  parallel_for(a.heads, threads, [&](std::int64_t h, int) {
    A* const dw = a.dw_HEK.data<A>() + h * E * K;
    if (partials == 0 && !a.accumulate) std::fill_n(dw, E * K, A{0});
    for (std::int64_t p = 0; p < partials; ++p)
      store_rows<A, A>(sums.data<A>() + (h * partials + p) * E * lanes, lanes, E, K, A{1}, {dw, K},
                       0, p > 0 || a.accumulate);
  });
}

}  // namespace

void HeadProjection::cpu(const Arguments& a, ExecutionContext& context) {
  visit_floating(a.x_THK.dtype(), [&](auto type) { forward<decltype(type)>(a, context); });
}

void HeadProjectionInputGradient::cpu(const Arguments& a, ExecutionContext& context) {
  visit_floating(a.dx_THK.dtype(), [&](auto type) { input_gradient<decltype(type)>(a, context); });
}

void HeadProjectionWeightGradient::cpu(const Arguments& a, ExecutionContext& context) {
  visit_floating(a.x_THK.dtype(), [&](auto type) { weight_gradient<decltype(type)>(a, context); });
}

}  // namespace filigree
