// A sum over all elements, in f64 and in one order: the same bits in every run.
#pragma once

#include "kernels/cuda/device.hpp"
#include "kernels/cuda/launch.hpp"

namespace filigree {

constexpr int kSumThreads = 256;
constexpr std::int64_t kSumChunk = 8192;  // elements of a block

template <class T, class Term>
__global__ void __launch_bounds__(kSumThreads)
    partial_sum_kernel(const T* a, const T* b, std::int64_t count, double* partial, Term term) {
  __shared__ double scratch[kWarp];
  const std::int64_t begin = blockIdx.x * kSumChunk;
  const std::int64_t end = begin + kSumChunk < count ? begin + kSumChunk : count;
  double sum = 0.0;
  for (std::int64_t i = begin + threadIdx.x; i < end; i += kSumThreads) sum += term(a, b, i);
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// Internal linkage: this header is included by several sources.
static __global__ void __launch_bounds__(kSumThreads)
    total_kernel(const double* partial, std::int64_t count, double* sum, bool accumulate) {
  __shared__ double scratch[kWarp];
  double total = 0.0;
  for (std::int64_t i = threadIdx.x; i < count; i += kSumThreads) total += partial[i];
  total = block_sum(total, scratch);
  if (threadIdx.x == 0) *sum = accumulate ? *sum + total : total;
}

// sum[0] (+)= sum over i < count of term(a, b, i), of type double; a struct with a __device__
// operator().
template <class T, class Term>
void sum_elements(ExecutionContext& context, const T* a, const T* b, std::int64_t count,
                  const Tensor& sum, bool accumulate, const Term& term) {
  const unsigned chunks = blocks_for(count, kSumChunk);
  const Tensor partial = context.empty(Shape{chunks}, DType::f64);
  launch(context, {chunks, kSumThreads}, partial_sum_kernel<T, Term>, a, b, count,
         device_data<double>(partial), term);
  launch(context, {1, kSumThreads}, total_kernel, device_data<double>(partial),
         static_cast<std::int64_t>(chunks), device_data<double>(sum), accumulate);
}

}  // namespace filigree
