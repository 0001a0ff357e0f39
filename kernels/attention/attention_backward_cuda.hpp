// What the kernels of the backward share.
#pragma once

#include "kernels/attention/attention_cuda.hpp"

namespace filigree {

template <class T>
struct BackwardParameters {
  DevicePattern pattern;
  HeadTensor<const T> q, k, v, d_o;
  HeadTensor<T> dq, dk, dv;
  const float *lse, *delta;
};

template <class T>
BackwardParameters<T> backward_parameters(const AttentionBackward::Arguments& a,
                                          const DevicePattern& pattern, const Tensor& delta) {
  const AttentionShape& s = a.shape;
  return {pattern,
          head_tensor<const T>(a.q_THK, s),
          head_tensor<const T>(a.k_TGK, s),
          head_tensor<const T>(a.v_TGK, s),
          head_tensor<const T>(a.do_THK, s),
          head_tensor<T>(a.dq_THK, s),
          head_tensor<T>(a.dk_TGK, s),
          head_tensor<T>(a.dv_TGK, s),
          device_data<float>(a.lse_BHS),
          device_data<float>(delta)};
}

// delta[b, h, i] = <do[i], o[i]>.
Tensor attention_delta(const AttentionBackward::Arguments&, ExecutionContext&);

// Tiles of one group of queries add to the same slots of dbias, each to a part of its own: zeros
// [count, numel of dbias], or dbias itself where one is enough; undefined without a bias.
Tensor empty_bias_parts(const AttentionBackward::Arguments&, std::int64_t count, ExecutionContext&);
// dbias = sum over parts, ascending.
void add_bias_parts(const AttentionBackward::Arguments&, const Tensor& parts, ExecutionContext&);

// What is taken from a logit to get the logarithm of its weight: lse; infinite for a row that reads
// nothing, or that does not exist (query -1), so that all its weights are 0.
__device__ __forceinline__ float weight_shift(const DevicePattern& p, const float* lse_BHS, int b,
                                              int h, int query) {
  const float lse = query < 0 ? -INFINITY : lse_BHS[p.row(b, h, query)];
  return lse == -INFINITY ? INFINITY : lse;
}

void attention_backward_keys(const AttentionBackward::Arguments&, const BackwardParameters<float>&,
                             const ExecutionContext&);
void attention_backward_keys(const AttentionBackward::Arguments&,
                             const BackwardParameters<DeviceBFloat16>&, const ExecutionContext&);

}  // namespace filigree
