// Products of tall matrices with small ones, on the tiles of product_tile.hpp, which limit them:
// at widths of 16 to 64 the forward does 8 to 32 multiply-adds for each element that it reads.
#include "kernels/cuda/launch.hpp"
#include "kernels/gate/head_projection.hpp"
#include "kernels/gate/product_tile.hpp"

namespace filigree {
namespace {

constexpr std::int64_t kPartial = 1024;  // tokens of one partial sum of the weight gradient

// Rows `stride` apart; the columns of head h begin at h * width.
template <class T>
struct Heads {
  T* data;
  std::int64_t rows, width, stride;

  __device__ float load(std::int64_t head, std::int64_t row, std::int64_t column) const {
    return row < rows && column < width ? to_float(data[row * stride + head * width + column])
                                        : 0.0f;
  }
};

// Tile x of head y: to[t, h, c] (+)= sum_i from[t, h / shared, i] w(i, c). w: [heads, width of to,
// width of from], or where kTransposed [heads, width of from, width of to].
template <int kRows, int kCols, bool kTransposed, class T>
__global__ void __launch_bounds__(kProductThreads)
    token_product_kernel(Heads<const T> from, const T* w, Heads<T> to, std::int64_t shared_heads,
                         std::int64_t column_tiles, bool accumulate) {
  using Tile = ProductTile<kRows, kCols>;
  __shared__ typename Tile::Shared shared;
  const std::int64_t t0 = blockIdx.x / column_tiles * kRows, head = blockIdx.y;
  const std::int64_t c0 = blockIdx.x % column_tiles * kCols;
  const T* const own = w + head * from.width * to.width;
  const auto left = [&](int r, std::int64_t i) {
    return from.load(head / shared_heads, t0 + r, i);
  };
  const auto right = [&](std::int64_t i, int c) {
    if (c0 + c >= to.width) return 0.0f;
    return to_float(own[kTransposed ? i * to.width + c0 + c : (c0 + c) * from.width + i]);
  };
  Tile tile;
  tile.template add<true, !kTransposed>(shared, 0, from.width, left, right);
  tile.for_each([&](int r, int c, float sum) {
    if (t0 + r >= to.rows || c0 + c >= to.width) return;
    T& at = to.data[(t0 + r) * to.stride + head * to.width + c0 + c];
    at = from_float<T>(accumulate ? to_float(at) + sum : sum);
  });
}

template <bool kTransposed, class T>
void launch_token_product(const ExecutionContext& context, const Heads<const T>& from, const T* w,
                          const Heads<T>& to, std::int64_t heads, std::int64_t shared_heads,
                          bool accumulate) {
  visit_tile(to.width, [&]<int kRows, int kCols>(ProductTile<kRows, kCols>) {
    const unsigned columns = blocks_for(to.width, kCols);
    const dim3 grid(blocks_for(to.rows, kRows) * columns, static_cast<unsigned>(heads));
    launch(context, {grid, kProductThreads}, token_product_kernel<kRows, kCols, kTransposed, T>,
           from, w, to, shared_heads, static_cast<std::int64_t>(columns), accumulate);
  });
}

// partial[chunk, h, e, k] = sum over the tokens t of the chunk of dy[t,h,e] x[t, h / shared, k].
template <int kRows, int kCols, class T>
__global__ void __launch_bounds__(kProductThreads)
    weight_gradient_kernel(Heads<const T> x, Heads<const T> dy, float* partial,
                           std::int64_t shared_heads, std::int64_t column_tiles) {
  using Tile = ProductTile<kRows, kCols>;
  __shared__ typename Tile::Shared shared;
  const std::int64_t e0 = blockIdx.y / column_tiles * kRows, head = blockIdx.z;
  const std::int64_t k0 = blockIdx.y % column_tiles * kCols;
  const std::int64_t begin = blockIdx.x * kPartial;
  const std::int64_t end = begin + kPartial < x.rows ? begin + kPartial : x.rows;
  Tile tile;
  tile.template add<false, false>(
      shared, begin, end, [&](int r, std::int64_t t) { return dy.load(head, t, e0 + r); },
      [&](std::int64_t t, int c) { return x.load(head / shared_heads, t, k0 + c); });
  float* const to =
      partial + (static_cast<std::int64_t>(blockIdx.x) * gridDim.z + head) * dy.width * x.width;
  tile.for_each([&](int r, int c, float sum) {
    if (e0 + r < dy.width && k0 + c < x.width) to[(e0 + r) * x.width + k0 + c] = sum;
  });
}

__global__ void __launch_bounds__(kProductThreads)
    add_partials_kernel(const float* partial, std::int64_t partials, std::int64_t count, float* dw,
                        bool accumulate) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kProductThreads + threadIdx.x;
  if (i >= count) return;
  float sum = 0.0f;
  for (std::int64_t p = 0; p < partials; ++p) sum += partial[p * count + i];
  dw[i] = accumulate ? dw[i] + sum : sum;
}

template <class T>
void weight_gradient(const HeadProjectionWeightGradient::Arguments& a, ExecutionContext& context) {
  const auto sizes = head_projection_sizes(a.heads, a.input_heads, a.x_THK, a.dw_HEK);
  const Heads<const T> x{device_data<T>(a.x_THK), sizes.tokens, sizes.in, a.x_THK.dim(1)};
  const Heads<const T> dy{device_data<T>(a.dy_THE), sizes.tokens, sizes.out, a.dy_THE.dim(1)};
  const unsigned partials = blocks_for(sizes.tokens, kPartial);
  const std::int64_t count = a.dw_HEK.numel();
  const Tensor partial = context.empty({partials, count}, DType::f32);
  visit_tile(sizes.in, [&]<int kRows, int kCols>(ProductTile<kRows, kCols>) {
    const unsigned columns = blocks_for(sizes.in, kCols);
    const dim3 grid(partials, blocks_for(sizes.out, kRows) * columns,
                    static_cast<unsigned>(a.heads));
    launch(context, {grid, kProductThreads}, weight_gradient_kernel<kRows, kCols, T>, x, dy,
           device_data<float>(partial), sizes.shared, static_cast<std::int64_t>(columns));
  });
  launch(context, {blocks_for(count, kProductThreads), kProductThreads}, add_partials_kernel,
         device_data<float>(partial), static_cast<std::int64_t>(partials), count,
         device_data<float>(a.dw_HEK), a.accumulate);
}

}  // namespace

void HeadProjection::cuda(const Arguments& a, ExecutionContext& context) {
  const auto sizes = head_projection_sizes(a.heads, a.input_heads, a.x_THK, a.w_HEK);
  visit_device(a.x_THK.dtype(), [&](auto type) {
    using T = decltype(type);
    launch_token_product<false, T>(
        context, {device_data<T>(a.x_THK), sizes.tokens, sizes.in, a.x_THK.dim(1)},
        device_data<T>(a.w_HEK), {device_data<T>(a.y_THE), sizes.tokens, sizes.out, a.y_THE.dim(1)},
        a.heads, sizes.shared, false);
  });
}

// The heads of an input head lie side by side in dy and in w, so their sum is one product.
void HeadProjectionInputGradient::cuda(const Arguments& a, ExecutionContext& context) {
  const auto sizes = head_projection_sizes(a.heads, a.input_heads, a.dx_THK, a.w_HEK);
  visit_device(a.dx_THK.dtype(), [&](auto type) {
    using T = decltype(type);
    launch_token_product<true, T>(
        context,
        {device_data<T>(a.dy_THE), sizes.tokens, sizes.shared * sizes.out, a.dy_THE.dim(1)},
        device_data<T>(a.w_HEK),
        {device_data<T>(a.dx_THK), sizes.tokens, sizes.in, a.dx_THK.dim(1)}, a.input_heads, 1,
        a.accumulate);
  });
}

void HeadProjectionWeightGradient::cuda(const Arguments& a, ExecutionContext& context) {
  visit_device(a.x_THK.dtype(), [&](auto type) { weight_gradient<decltype(type)>(a, context); });
}

}  // namespace filigree
