#include "kernels/cuda/device.hpp"
#include "kernels/cuda/launch.hpp"
#include "kernels/elementwise/floating.hpp"
#include "kernels/random/normal_fill.hpp"
#include "runtime/core/random.hpp"

namespace filigree {
namespace {

constexpr int kThreads = 256;

__device__ __forceinline__ void store_rounded(double value, float* to) {
  *to = static_cast<float>(value);
}
__device__ __forceinline__ void store_rounded(double value, DeviceBFloat16* to) {
  *to = __double2bfloat16(value);
}

struct Slice {
  std::int64_t count, columns, first, global_columns;  // first: global index of the first element
  philox::Key key;
  double mean, deviation;
};

// Bound by the arithmetic of the draws, not by memory: an element a thread.
template <class T>
__global__ void __launch_bounds__(kThreads) normal_fill_kernel(T* x, Slice s) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= s.count) return;
  const std::int64_t index = s.first + i / s.columns * s.global_columns + i % s.columns;
  const double z = philox::normal(philox::words_at(s.key, static_cast<std::uint64_t>(index)));
  // Rounded twice, as on the CPU: not one fused operation.
  store_rounded(__dadd_rn(s.mean, __dmul_rn(s.deviation, z)), x + i);
}

}  // namespace

void NormalFill::cuda(const Arguments& a, ExecutionContext& context) {
  const Slice slice{.count = a.x_RC.numel(),
                    .columns = columns_of(a.x_RC),
                    .first = a.first_row * a.global_columns + a.first_column,
                    .global_columns = a.global_columns,
                    .key = Philox(a.seed, RandomPurpose::initialisation, a.stream).key(),
                    .mean = a.mean,
                    .deviation = a.deviation};
  visit_device(a.x_RC.dtype(), [&](auto type) {
    using T = decltype(type);
    launch(context, {blocks_for(slice.count, kThreads), kThreads}, normal_fill_kernel<T>,
           device_data<T>(a.x_RC), slice);
  });
}

}  // namespace filigree
