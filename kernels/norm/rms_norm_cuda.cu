#include "kernels/cuda/device.hpp"
#include "kernels/cuda/launch.hpp"
#include "kernels/elementwise/floating.hpp"
#include "kernels/norm/rms_norm.hpp"

namespace filigree {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kRowsPerChunk = 32;  // rows whose dw one block adds up

// A block for each row.
template <class T>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const T* x, const T* w, T* y, float* r, std::int64_t D, float eps) {
  __shared__ float scratch[kWarp];
  const T* const row = x + blockIdx.x * D;
  float sum = 0.0f;
  for (std::int64_t d = threadIdx.x; d < D; d += kThreads) {
    const float value = to_float(row[d]);
    sum += value * value;
  }
  const float scale = 1.0f / sqrtf(block_sum(sum, scratch) / static_cast<float>(D) + eps);
  for (std::int64_t d = threadIdx.x; d < D; d += kThreads)
    y[blockIdx.x * D + d] = from_float<T>(to_float(row[d]) * scale * to_float(w[d]));
  if (threadIdx.x == 0) r[blockIdx.x] = scale;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    input_gradient_kernel(const T* x, const T* w, const float* r, const T* dy, T* dx,
                          std::int64_t D) {
  __shared__ float scratch[kWarp];
  const std::int64_t begin = blockIdx.x * D;
  float dot = 0.0f;
  for (std::int64_t d = threadIdx.x; d < D; d += kThreads)
    dot += to_float(w[d]) * to_float(dy[begin + d]) * to_float(x[begin + d]);
  const float scale = r[blockIdx.x];
  const float projection = scale * scale / static_cast<float>(D) * block_sum(dot, scratch);
  for (std::int64_t d = threadIdx.x; d < D; d += kThreads) {
    const float value = to_float(w[d]) * to_float(dy[begin + d]);
    dx[begin + d] = from_float<T>(scale * (value - to_float(x[begin + d]) * projection));
  }
}

// partial[chunk, d]: a thread for each column of a chunk of rows.
template <class T>
__global__ void __launch_bounds__(kThreads)
    weight_gradient_kernel(const T* x, const float* r, const T* dy, float* partial,
                           std::int64_t rows, std::int64_t D) {
  const std::int64_t d = static_cast<std::int64_t>(blockIdx.y) * kThreads + threadIdx.x;
  if (d >= D) return;
  const std::int64_t begin = blockIdx.x * kRowsPerChunk;  // x: a grid has few blocks in y
  const std::int64_t end = begin + kRowsPerChunk < rows ? begin + kRowsPerChunk : rows;
  float sum = 0.0f;
  for (std::int64_t t = begin; t < end; ++t)
    sum += to_float(dy[t * D + d]) * to_float(x[t * D + d]) * r[t];
  partial[blockIdx.x * D + d] = sum;
}

__global__ void __launch_bounds__(kThreads)
    add_chunks_kernel(const float* partial, std::int64_t chunks, std::int64_t D, float* dw,
                      bool accumulate) {
  const std::int64_t d = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (d >= D) return;
  float sum = 0.0f;
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk) sum += partial[chunk * D + d];
  dw[d] = accumulate ? dw[d] + sum : sum;
}

template <class T>
void backward(const RmsNormBackward::Arguments& a, ExecutionContext& context) {
  const std::int64_t rows = rows_of(a.x_TD), D = columns_of(a.x_TD);
  const T *const x = device_data<T>(a.x_TD), *const dy = device_data<T>(a.dy_TD);
  const float* const r = device_data<float>(a.r_T);
  launch(context, {static_cast<unsigned>(rows), kThreads}, input_gradient_kernel<T>, x,
         device_data<T>(a.w_D), r, dy, device_data<T>(a.dx_TD), D);
  const unsigned chunks = blocks_for(rows, kRowsPerChunk), columns = blocks_for(D, kThreads);
  const Tensor partial = context.empty(Shape{chunks, D}, DType::f32);
  launch(context, {dim3(chunks, columns), kThreads}, weight_gradient_kernel<T>, x, r, dy,
         device_data<float>(partial), rows, D);
  launch(context, {columns, kThreads}, add_chunks_kernel, device_data<float>(partial),
         static_cast<std::int64_t>(chunks), D, device_data<float>(a.dw_D), a.accumulate_dw);
}

}  // namespace

void RmsNormForward::cuda(const Arguments& a, ExecutionContext& context) {
  visit_device(a.x_TD.dtype(), [&](auto type) {
    using T = decltype(type);
    launch(context, {static_cast<unsigned>(rows_of(a.x_TD)), kThreads}, forward_kernel<T>,
           device_data<T>(a.x_TD), device_data<T>(a.w_D), device_data<T>(a.y_TD),
           device_data<float>(a.r_T), columns_of(a.x_TD), static_cast<float>(a.eps));
  });
}

void RmsNormBackward::cuda(const Arguments& a, ExecutionContext& context) {
  visit_device(a.x_TD.dtype(), [&](auto type) { backward<decltype(type)>(a, context); });
}

}  // namespace filigree
