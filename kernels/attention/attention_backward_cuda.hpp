// What the two kernels of the backward share.
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

// What is taken from a logit to get the logarithm of its weight: lse; infinite for a row that reads
// nothing, or that does not exist (query -1), so that all its weights are 0.
template <class T>
__device__ __forceinline__ float weight_shift(const BackwardParameters<T>& a, int b, int h,
                                              int query) {
  const float lse = query < 0 ? -INFINITY : a.lse[a.pattern.row(b, h, query)];
  return lse == -INFINITY ? INFINITY : lse;
}

void attention_backward_keys(const AttentionBackward::Arguments&, const BackwardParameters<float>&,
                             const ExecutionContext&);
void attention_backward_keys(const AttentionBackward::Arguments&,
                             const BackwardParameters<DeviceBFloat16>&, const ExecutionContext&);

}  // namespace filigree
