// What comes before and after the tiles of the backward: delta, and dbias of its parts.
#include "kernels/attention/attention_backward_cuda.hpp"

namespace filigree {
namespace {

constexpr int kThreads = 256;

// A warp for each (query, head).
template <class T>
__global__ void __launch_bounds__(kThreads)
    delta_kernel(HeadTensor<const T> o, HeadTensor<const T> d_o, float* delta, std::int64_t rows,
                 int query_length, int heads) {
  const std::int64_t row =
      static_cast<std::int64_t>(blockIdx.x) * (kThreads / kWarp) + threadIdx.x / kWarp;
  if (row >= rows) return;
  const int query = static_cast<int>(row % query_length);
  const std::int64_t head = row / query_length;
  const std::int64_t token = head / heads * query_length;
  const T* const x = o.head(token, static_cast<int>(head % heads)).row(query);
  const T* const y = d_o.head(token, static_cast<int>(head % heads)).row(query);
  float sum = 0.0f;
  for (int d = static_cast<int>(threadIdx.x) % kWarp; d < o.width; d += kWarp)
    sum += to_float(x[d]) * to_float(y[d]);
  sum = warp_sum(sum);
  if (threadIdx.x % kWarp == 0) delta[row] = sum;
}

__global__ void __launch_bounds__(kThreads)
    add_parts_kernel(const float* parts, int count, std::int64_t size, float* dbias) {
  const std::int64_t e = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (e >= size) return;
  float sum = 0.0f;
  for (int part = 0; part < count; ++part) sum += parts[part * size + e];
  dbias[e] = sum;
}

}  // namespace

Tensor attention_delta(const AttentionBackward::Arguments& a, ExecutionContext& context) {
  const AttentionShape& s = a.shape;
  const std::int64_t rows = a.lse_BHS.numel();
  Tensor delta = context.empty(a.lse_BHS.shape(), DType::f32);
  visit_device(a.q_THK.dtype(), [&](auto type) {
    using T = decltype(type);
    launch(context, {blocks_for(rows, kThreads / kWarp), kThreads}, delta_kernel<T>,
           head_tensor<const T>(a.o_THK, s), head_tensor<const T>(a.do_THK, s),
           device_data<float>(delta), rows, static_cast<int>(s.query_length),
           static_cast<int>(s.query_heads));
  });
  return delta;
}

Tensor empty_bias_parts(const AttentionBackward::Arguments& a, std::int64_t count,
                        ExecutionContext& context) {
  Tensor parts = a.dbias_BHNJ;
  if (!parts.defined() || parts.numel() == 0) return parts;
  if (count > 1) parts = context.empty(Shape{count, parts.numel()}, DType::f32);
  context.stream->fill(parts.raw(), 0, parts.bytes());
  return parts;
}

void add_bias_parts(const AttentionBackward::Arguments& a, const Tensor& parts,
                    ExecutionContext& context) {
  if (!parts.defined() || parts.raw() == a.dbias_BHNJ.raw()) return;
  const std::int64_t size = a.dbias_BHNJ.numel();
  launch(context, {blocks_for(size, kThreads), kThreads}, add_parts_kernel,
         device_data<float>(parts), static_cast<int>(parts.dim(0)), size,
         device_data<float>(a.dbias_BHNJ));
}

}  // namespace filigree
