// The running softmax of rows that are seen a tile at a time (Milakov and Gimelshein 2018, "Online
// normalizer calculation for softmax").
#pragma once

#include "kernels/cuda/tile/products.hpp"

namespace filigree::tile {

// Logits in units in which the exponential of T's path is fastest at the accuracy it needs: powers
// of two for bf16, of e for f32.
template <class T>
struct Exponential {
  static constexpr float kUnit = 1.44269504088896341f;  // log2(e)
  static __device__ __forceinline__ float of(float x) { return exp2f(x); }
};
template <>
struct Exponential<float> {
  static constexpr float kUnit = 1.0f;
  static __device__ __forceinline__ float of(float x) { return expf(x); }
};

__device__ __forceinline__ float max_of_four(float value) {
  value = fmaxf(value, __shfl_xor_sync(kWholeWarp, value, 1));
  return fmaxf(value, __shfl_xor_sync(kWholeWarp, value, 2));
}
__device__ __forceinline__ float sum_of_four(float value) {
  value += __shfl_xor_sync(kWholeWarp, value, 1);
  return value + __shfl_xor_sync(kWholeWarp, value, 2);
}

// Of the two rows that a lane shares with three others. Logits are in Exponential<T>'s units.
template <class T>
struct RunningSoftmax {
  float maximum[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0.0f, 0.0f};  // over this lane's columns

  // Turns logits into weights relative to the new maximum; what was made with the old one is to be
  // scaled by `rescale`.
  template <int kTiles>
  __device__ __forceinline__ void add(float (&s)[kTiles][4], float (&rescale)[2]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float highest = maximum[i];
#pragma unroll
      for (int j = 0; j < kTiles; ++j)
        highest = fmaxf(highest, fmaxf(s[j][2 * i], s[j][2 * i + 1]));
      highest = max_of_four(highest);
      // A row without a key so far: exp(-inf - 0) = 0, where -inf - (-inf) would be NaN.
      const float shift = highest == -INFINITY ? 0.0f : highest;
      rescale[i] = Exponential<T>::of(maximum[i] - shift);
      maximum[i] = highest;
      sum[i] *= rescale[i];
#pragma unroll
      for (int j = 0; j < kTiles; ++j)
#pragma unroll
        for (int n = 2 * i; n < 2 * i + 2; ++n) {
          s[j][n] = Exponential<T>::of(s[j][n] - shift);
          sum[i] += s[j][n];
        }
    }
  }

  // Sums over whole rows; call once, at the end.
  __device__ __forceinline__ void finish() {
    for (int i = 0; i < 2; ++i) sum[i] = sum_of_four(sum[i]);
  }
  // Natural logarithm of the sum of exponentials.
  __device__ __forceinline__ float log_sum(int i) const {
    return sum[i] == 0.0f ? -INFINITY : maximum[i] / Exponential<T>::kUnit + logf(sum[i]);
  }
};

template <int kTiles>
__device__ __forceinline__ void scale_rows(float (&sums)[kTiles][4], const float (&factor)[2]) {
#pragma unroll
  for (int j = 0; j < kTiles; ++j)
#pragma unroll
    for (int n = 0; n < 4; ++n) sums[j][n] *= factor[n / 2];
}

}  // namespace filigree::tile
