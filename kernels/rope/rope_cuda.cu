#include <algorithm>

#include "kernels/cuda/device.hpp"
#include "kernels/cuda/launch.hpp"
#include "kernels/rope/rope.hpp"

namespace filigree {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kTurns = 1024;  // that a block computes, and holds in 8 KiB

struct Rotation {
  std::int64_t tokens, tokens_per_block, width, pairs;  // width: heads * K of a token
  RotaryFrequencies frequencies;
  float direction;  // -1 turns back
};

// A block turns all heads of some tokens. Its angles are computed once, in f64: the sine of a large
// angle is as exact as that of a small one.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    rope_kernel(const T* x, const std::int32_t* positions, T* y, Rotation r) {
  __shared__ float cosine[kTurns], sine[kTurns];
  using Wide = Pack<T, kWidth>;
  const std::int64_t K = 2 * r.pairs, first = blockIdx.x * r.tokens_per_block;
  const std::int64_t tokens = min(r.tokens_per_block, r.tokens - first);
  // Heads of more than 2 kTurns elements are turned part by part.
  for (std::int64_t part = 0; part < r.pairs; part += kTurns) {
    const std::int64_t pairs = min(kTurns, r.pairs - part);
    for (std::int64_t k = threadIdx.x; k < tokens * pairs; k += kThreads) {
      const double angle = positions[first + k / pairs] * r.frequencies.of(part + k % pairs, K);
      cosine[k] = static_cast<float>(cos(angle));
      sine[k] = r.direction * static_cast<float>(sin(angle));
    }
    __syncthreads();
    const std::int64_t packs = pairs / kWidth, heads = r.width / K;
    for (std::int64_t k = threadIdx.x; k < tokens * heads * packs; k += kThreads) {
      const std::int64_t i = k % packs * kWidth, head = k / packs;  // head of all tokens
      const std::int64_t turn = head / heads * pairs + i;
      const std::int64_t low_at = (first * heads + head) * K + part + i;
      const Wide low = *reinterpret_cast<const Wide*>(x + low_at);
      const Wide high = *reinterpret_cast<const Wide*>(x + low_at + r.pairs);
      Wide new_low, new_high;
#pragma unroll
      for (int e = 0; e < kWidth; ++e) {
        const float a = to_float(low.values[e]), b = to_float(high.values[e]);
        const float c = cosine[turn + e], s = sine[turn + e];
        new_low.values[e] = from_float<T>(a * c - b * s);
        new_high.values[e] = from_float<T>(b * c + a * s);
      }
      *reinterpret_cast<Wide*>(y + low_at) = new_low;
      *reinterpret_cast<Wide*>(y + low_at + r.pairs) = new_high;
    }
    __syncthreads();
  }
}

}  // namespace

void Rope::cuda(const Arguments& a, ExecutionContext& context) {
  const std::int64_t tokens = a.positions_T.numel(), pairs = a.head_dim / 2;
  if (a.x_THK.numel() == 0) return;
  const Rotation rotation{.tokens = tokens,
                          .tokens_per_block = std::clamp<std::int64_t>(kTurns / pairs, 1, 16),
                          .width = a.x_THK.numel() / tokens,
                          .pairs = pairs,
                          .frequencies = a.frequencies,
                          .direction = a.inverse ? -1.0f : 1.0f};
  visit_device(a.x_THK.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* const x = device_data<T>(a.x_THK);
    T* const y = device_data<T>(a.y_THK);
    const bool wide = pairs % kWidest<T> == 0 && is_aligned(x, 16) && is_aligned(y, 16);
    launch(context, {blocks_for(tokens, rotation.tokens_per_block), kThreads},
           wide ? rope_kernel<T, kWidest<T>> : rope_kernel<T, 1>, x,
           device_data<std::int32_t>(a.positions_T), y, rotation);
  });
}

}  // namespace filigree
