#include "kernels/cuda/map.hpp"
#include "kernels/elementwise/fill.hpp"

namespace filigree {
namespace {

template <class T>
__global__ void __launch_bounds__(256) fill_kernel(const T* value, T* y, std::int64_t count) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) y[i] = *value;
}

}  // namespace

void Fill::cuda(const Arguments& a, ExecutionContext& context) {
  visit_device(a.y.dtype(), [&](auto type) {
    using T = decltype(type);
    launch(context, {blocks_for(a.y.numel(), 256), 256}, fill_kernel<T>, device_data<T>(a.value),
           device_data<T>(a.y), a.y.numel());
  });
}

}  // namespace filigree
