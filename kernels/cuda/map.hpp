// Element-wise kernels: values of kInputs arrays in, values of kOutputs arrays out.
#pragma once

#include "kernels/cuda/device.hpp"
#include "kernels/cuda/launch.hpp"

namespace filigree {

template <class T, int kCount>
struct Arrays {
  T* at[kCount];
};

// Each thread takes kWidth neighbouring elements with one access per array. An output may be an
// input: elements are read before they are written.
template <int kWidth, class T, int kInputs, int kOutputs, class Function>
__global__ void __launch_bounds__(256)
    map_kernel(Arrays<const T, kInputs> inputs, Arrays<T, kOutputs> outputs, std::int64_t count,
               Function function) {
  using Wide = Pack<T, kWidth>;
  const std::int64_t first =
      (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kWidth;
  if (first + kWidth <= count) {
    Wide in[kInputs], out[kOutputs];
#pragma unroll
    for (int k = 0; k < kInputs; ++k) in[k] = *reinterpret_cast<const Wide*>(inputs.at[k] + first);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      float x[kInputs], y[kOutputs];
#pragma unroll
      for (int k = 0; k < kInputs; ++k) x[k] = to_float(in[k].values[i]);
      function(first + i, x, y);
#pragma unroll
      for (int k = 0; k < kOutputs; ++k) out[k].values[i] = from_float<T>(y[k]);
    }
#pragma unroll
    for (int k = 0; k < kOutputs; ++k) *reinterpret_cast<Wide*>(outputs.at[k] + first) = out[k];
    return;
  }
  for (std::int64_t i = first; i < count; ++i) {
    float x[kInputs], y[kOutputs];
    for (int k = 0; k < kInputs; ++k) x[k] = to_float(inputs.at[k][i]);
    function(i, x, y);
    for (int k = 0; k < kOutputs; ++k) outputs.at[k][i] = from_float<T>(y[k]);
  }
}

// function(i, x, y): from the f32 values x[kInputs] of element i to y[kOutputs]; a struct with a
// __device__ operator(). All tensors are of one dtype, f32 or bf16, and size.
template <int kInputs, int kOutputs, class Function>
void map_elements(const ExecutionContext& context, const Tensor (&inputs)[kInputs],
                  const Tensor (&outputs)[kOutputs], const Function& function) {
  visit_device(inputs[0].dtype(), [&](auto type) {
    using T = decltype(type);
    Arrays<const T, kInputs> in;
    Arrays<T, kOutputs> out;
    bool aligned = true;
    for (int k = 0; k < kInputs; ++k) {
      in.at[k] = device_data<T>(inputs[k]);
      aligned = aligned && is_aligned(in.at[k], 16);
    }
    for (int k = 0; k < kOutputs; ++k) {
      out.at[k] = device_data<T>(outputs[k]);
      aligned = aligned && is_aligned(out.at[k], 16);
    }
    constexpr int kThreads = 256;
    const std::int64_t count = inputs[0].numel();
    if (aligned)
      launch(context, {blocks_for(count, kThreads * kWidest<T>), kThreads},
             map_kernel<kWidest<T>, T, kInputs, kOutputs, Function>, in, out, count, function);
    else
      launch(context, {blocks_for(count, kThreads), kThreads},
             map_kernel<1, T, kInputs, kOutputs, Function>, in, out, count, function);
  });
}

}  // namespace filigree
