#include "kernels/cuda/device.hpp"
#include "kernels/cuda/launch.hpp"
#include "kernels/elementwise/scalars.hpp"

namespace filigree {
namespace {

constexpr int kThreads = 64;

__global__ void __launch_bounds__(kThreads)
    divide_kernel(const double* a, const double* b, double* y, std::int64_t count) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < count) y[i] = (a != nullptr ? a[i] : 1.0) / b[i];
}

__global__ void __launch_bounds__(kThreads)
    square_root_kernel(const double* x, double* y, std::int64_t count) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < count) y[i] = sqrt(x[i]);
}

}  // namespace

void Divide::cuda(const Arguments& a, ExecutionContext& context) {
  launch(context, {blocks_for(a.y.numel(), kThreads), kThreads}, divide_kernel,
         device_data<double>(a.a), device_data<double>(a.b), device_data<double>(a.y), a.y.numel());
}

void SquareRoot::cuda(const Arguments& a, ExecutionContext& context) {
  launch(context, {blocks_for(a.y.numel(), kThreads), kThreads}, square_root_kernel,
         device_data<double>(a.x), device_data<double>(a.y), a.y.numel());
}

}  // namespace filigree
