#include <algorithm>
#include <type_traits>

#include "kernels/cuda/device.hpp"
#include "kernels/cuda/launch.hpp"
#include "kernels/elementwise/floating.hpp"
#include "kernels/norm/rms_norm.hpp"

namespace filigree {
namespace {

constexpr int kThreads = 256;

// Rows of heads are short and rows of a model long: kLanes neighbouring threads take one row.
template <int kLanes>
__device__ __forceinline__ float row_sum(float value, float* scratch) {
  if constexpr (kLanes == kThreads) {
    return block_sum(value, scratch);
  } else {
    for (int distance = kLanes / 2; distance > 0; distance /= 2)
      value += __shfl_xor_sync(kWholeWarp, value, distance);
    return value;
  }
}

template <class T, int kWidth, int kLanes>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const T* x, const T* w, T* y, float* r, std::int64_t rows, std::int64_t D,
                   float eps) {
  __shared__ float scratch[kWarp];
  using Wide = Pack<T, kWidth>;
  const std::int64_t row =
      static_cast<std::int64_t>(blockIdx.x) * (kThreads / kLanes) + threadIdx.x / kLanes;
  const std::int64_t first = threadIdx.x % kLanes * kWidth, end = row < rows ? D : 0;
  float sum = 0.0f;
  for (std::int64_t d = first; d < end; d += kLanes * kWidth) {
    const Wide in = *reinterpret_cast<const Wide*>(x + row * D + d);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sum += to_float(in.values[i]) * to_float(in.values[i]);
  }
  const float scale = 1.0f / sqrtf(row_sum<kLanes>(sum, scratch) / static_cast<float>(D) + eps);
  for (std::int64_t d = first; d < end; d += kLanes * kWidth) {
    const Wide in = *reinterpret_cast<const Wide*>(x + row * D + d);
    const Wide gain = *reinterpret_cast<const Wide*>(w + d);
    Wide out;
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      out.values[i] = from_float<T>(to_float(in.values[i]) * scale * to_float(gain.values[i]));
    *reinterpret_cast<Wide*>(y + row * D + d) = out;
  }
  if (first == 0 && row < rows) r[row] = scale;
}

template <class T, int kWidth, int kLanes>
__global__ void __launch_bounds__(kThreads)
    input_gradient_kernel(const T* x, const T* w, const float* r, const T* dy, T* dx,
                          std::int64_t rows, std::int64_t D) {
  __shared__ float scratch[kWarp];
  using Wide = Pack<T, kWidth>;
  const std::int64_t row =
      static_cast<std::int64_t>(blockIdx.x) * (kThreads / kLanes) + threadIdx.x / kLanes;
  const std::int64_t first = threadIdx.x % kLanes * kWidth, end = row < rows ? D : 0;
  float dot = 0.0f;
  for (std::int64_t d = first; d < end; d += kLanes * kWidth) {
    const Wide in = *reinterpret_cast<const Wide*>(x + row * D + d);
    const Wide gain = *reinterpret_cast<const Wide*>(w + d);
    const Wide gradient = *reinterpret_cast<const Wide*>(dy + row * D + d);
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      dot += to_float(gain.values[i]) * to_float(gradient.values[i]) * to_float(in.values[i]);
  }
  const float scale = row < rows ? r[row] : 0.0f;
  const float projection = scale * scale / static_cast<float>(D) * row_sum<kLanes>(dot, scratch);
  for (std::int64_t d = first; d < end; d += kLanes * kWidth) {
    const Wide in = *reinterpret_cast<const Wide*>(x + row * D + d);
    const Wide gain = *reinterpret_cast<const Wide*>(w + d);
    const Wide gradient = *reinterpret_cast<const Wide*>(dy + row * D + d);
    Wide out;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float value = to_float(gain.values[i]) * to_float(gradient.values[i]);
      out.values[i] = from_float<T>(scale * (value - to_float(in.values[i]) * projection));
    }
    *reinterpret_cast<Wide*>(dx + row * D + d) = out;
  }
}

// partial[chunk, d]: a thread for each pack of columns of each chunk of rows.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    weight_gradient_kernel(const T* x, const float* r, const T* dy, float* partial,
                           std::int64_t rows, std::int64_t D, std::int64_t rows_per_chunk) {
  using Wide = Pack<T, kWidth>;
  const std::int64_t packs = D / kWidth;
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::int64_t chunk = i / packs, d = i % packs * kWidth;
  const std::int64_t begin = chunk * rows_per_chunk;
  if (begin >= rows) return;
  const std::int64_t end = min(begin + rows_per_chunk, rows);
  float sum[kWidth] = {};
  for (std::int64_t t = begin; t < end; ++t) {
    const Wide in = *reinterpret_cast<const Wide*>(x + t * D + d);
    const Wide gradient = *reinterpret_cast<const Wide*>(dy + t * D + d);
#pragma unroll
    for (int e = 0; e < kWidth; ++e)
      sum[e] += to_float(gradient.values[e]) * to_float(in.values[e]) * r[t];
  }
#pragma unroll
  for (int e = 0; e < kWidth; ++e) partial[chunk * D + d + e] = sum[e];
}

// A warp's width of columns for each block, whose warps share the chunks.
__global__ void __launch_bounds__(kThreads)
    add_chunks_kernel(const float* partial, std::int64_t chunks, std::int64_t D, float* dw,
                      bool accumulate) {
  constexpr int kWarps = kThreads / kWarp;
  __shared__ float sums[kWarps][kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const std::int64_t d = static_cast<std::int64_t>(blockIdx.x) * kWarp + lane;
  float sum = 0.0f;
  for (std::int64_t chunk = warp; d < D && chunk < chunks; chunk += kWarps)
    sum += partial[chunk * D + d];
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || d >= D) return;
  for (int other = 1; other < kWarps; ++other) sum += sums[other][lane];
  dw[d] = accumulate ? dw[d] + sum : sum;
}

// Calls function(width, lanes), two integral constants, for rows of D elements of T.
template <class T, class Function>
void visit_rows(std::int64_t D, bool aligned, const Function& function) {
  const auto with_width = [&](auto width) {
    const std::int64_t packs = D / width;
    if (packs <= 8)
      function(width, std::integral_constant<int, 8>{});
    else if (packs <= 4 * kWarp)
      function(width, std::integral_constant<int, kWarp>{});
    else
      function(width, std::integral_constant<int, kThreads>{});
  };
  if (aligned && D % kWidest<T> == 0)
    with_width(std::integral_constant<int, kWidest<T>>{});
  else
    with_width(std::integral_constant<int, 1>{});
}

template <class T>
void backward(const RmsNormBackward::Arguments& a, ExecutionContext& context) {
  const std::int64_t rows = rows_of(a.x_TD), D = columns_of(a.x_TD);
  const T *const x = device_data<T>(a.x_TD), *const w = device_data<T>(a.w_D);
  const T* const dy = device_data<T>(a.dy_TD);
  T* const dx = device_data<T>(a.dx_TD);
  const float* const r = device_data<float>(a.r_T);
  const bool aligned =
      is_aligned(x, 16) && is_aligned(w, 16) && is_aligned(dy, 16) && is_aligned(dx, 16);
  visit_rows<T>(D, aligned, [&](auto width, auto lanes) {
    launch(context, {blocks_for(rows, kThreads / lanes), kThreads},
           input_gradient_kernel<T, width, lanes>, x, w, r, dy, dx, rows, D);
    // Enough threads to fill a GPU, and few enough chunks that adding them is little work.
    constexpr std::int64_t kWished = 1 << 16, kFewestRows = 8;
    const std::int64_t packs = std::max<std::int64_t>(D / width, 1);
    const std::int64_t wished = std::max<std::int64_t>(kWished / packs, 1);
    const std::int64_t rows_per_chunk = std::max(kFewestRows, (rows + wished - 1) / wished);
    const std::int64_t chunks = (rows + rows_per_chunk - 1) / rows_per_chunk;
    const Tensor partial = context.empty(Shape{chunks, D}, DType::f32);
    launch(context, {blocks_for(chunks * packs, kThreads), kThreads},
           weight_gradient_kernel<T, width>, x, r, dy, device_data<float>(partial), rows, D,
           rows_per_chunk);
    launch(context, {blocks_for(D, kWarp), kThreads}, add_chunks_kernel,
           device_data<float>(partial), chunks, D, device_data<float>(a.dw_D), a.accumulate_dw);
  });
}

}  // namespace

void RmsNormForward::cuda(const Arguments& a, ExecutionContext& context) {
  const std::int64_t rows = rows_of(a.x_TD), D = columns_of(a.x_TD);
  visit_device(a.x_TD.dtype(), [&](auto type) {
    using T = decltype(type);
    const T *const x = device_data<T>(a.x_TD), *const w = device_data<T>(a.w_D);
    T* const y = device_data<T>(a.y_TD);
    const bool aligned = is_aligned(x, 16) && is_aligned(w, 16) && is_aligned(y, 16);
    visit_rows<T>(D, aligned, [&](auto width, auto lanes) {
      launch(context, {blocks_for(rows, kThreads / lanes), kThreads},
             forward_kernel<T, width, lanes>, x, w, y, device_data<float>(a.r_T), rows, D,
             static_cast<float>(a.eps));
    });
  });
}

void RmsNormBackward::cuda(const Arguments& a, ExecutionContext& context) {
  visit_device(a.x_TD.dtype(), [&](auto type) { backward<decltype(type)>(a, context); });
}

}  // namespace filigree
