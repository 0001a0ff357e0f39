#include "kernels/cuda/map.hpp"
#include "kernels/cuda/sums.hpp"
#include "kernels/loss/token_losses.hpp"

namespace filigree {
namespace {

struct Rescale {
  __device__ void operator()(std::int64_t, const float* x, float* y) const {
    y[0] = x[2] * expf(x[0] - x[1]);
  }
};

struct LogProbability {
  const std::int32_t* ids;
  __device__ void operator()(std::int64_t i, const float* x, float* y) const {
    y[0] = x[0] + logf(x[1]);
    y[1] = ids[i] < 0 ? 0.0f : x[2] - y[0];
  }
};

struct Negated {
  template <class T>
  __device__ double operator()(const T* x, const T*, std::int64_t i) const {
    return -static_cast<double>(to_float(x[i]));
  }
};

template <class T>
__global__ void round_kernel(const double* from, T* to) {
  *to = from_float<T>(static_cast<float>(*from));
}

}  // namespace

void RescaleSums::cuda(const Arguments& a, ExecutionContext& context) {
  map_elements<3, 1>(context, {a.own_max_T, a.max_T, a.sum_T}, {a.sum_T}, Rescale{});
}

void TokenLosses::cuda(const Arguments& a, ExecutionContext& context) {
  map_elements<3, 2>(context, {a.max_T, a.sum_T, a.target_T}, {a.lse_T, a.log_p_T},
                     LogProbability{device_data<std::int32_t>(a.ids_T)});
  if (!a.loss.defined()) return;
  const Tensor sum = context.empty({}, DType::f64);
  visit_device(a.log_p_T.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* log_p = device_data<T>(a.log_p_T);
    sum_elements(context, log_p, log_p, a.log_p_T.numel(), sum, false, Negated{});
    launch(context, {1, 1}, round_kernel<T>, device_data<double>(sum), device_data<T>(a.loss));
  });
}

}  // namespace filigree
