#include "kernels/cuda/device.hpp"
#include "kernels/cuda/launch.hpp"
#include "kernels/sampling/sample_token.hpp"
#include "kernels/sampling/weights.hpp"

namespace filigree {
namespace {

using sampling::Mass;

constexpr int kThreads = 512, kWarps = kThreads / kWarp;
constexpr int kDigitBits = 4, kDigits = 1 << kDigitBits;
constexpr int kKeyBits = 64;

using Key = unsigned long long;

struct Logits {
  const float* values;
  std::int64_t count;

  // Keys descend in the order of sample_token.hpp, and no two are equal. A NaN comes first.
  __device__ Key key(std::int64_t id) const {
    const float x = values[id] == 0.0f ? 0.0f : values[id];  // one zero
    const unsigned bits = __float_as_uint(x);
    unsigned ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    if (x != x) ordered = 0xffffffffu;
    return static_cast<Key>(ordered) << 32 | ~static_cast<unsigned>(id);
  }
};

__device__ std::int32_t id_of(Key key) {
  return static_cast<std::int32_t>(~static_cast<unsigned>(key));
}

struct Shared {
  Mass of_warps[kWarps][kDigits], totals[kDigits];
  Mass target;
  Key prefix;
  Mass scratch[kWarp];
};

// Of the keys from `least` upwards: the largest one that, with those above it, has amounts that
// reach `target` together. Digit by digit from the top: the amounts of the keys that agree so far
// are added up by their next digit. All threads of the block come here and get it.
template <class Amount>
__device__ Key select(const Logits& x, Key least, Mass target, const Amount& amount,
                      Shared& shared) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  Key prefix = 0;
  for (int shift = kKeyBits - kDigitBits; shift >= 0; shift -= kDigitBits) {
    Mass mine[kDigits] = {};
    for (std::int64_t id = threadIdx.x; id < x.count; id += kThreads) {
      const Key key = x.key(id), above = (key ^ prefix) >> shift >> kDigitBits;
      const Mass value = key < least || above != 0 ? 0 : amount(id);
      const int digit = static_cast<int>(key >> shift & (kDigits - 1));
#pragma unroll
      for (int d = 0; d < kDigits; ++d) mine[d] += d == digit ? value : 0;
    }
#pragma unroll
    for (int d = 0; d < kDigits; ++d) {
      const Mass sum = warp_sum(mine[d]);
      if (lane == 0) shared.of_warps[warp][d] = sum;
    }
    __syncthreads();
    if (threadIdx.x < kDigits) {
      Mass total = 0;
      for (int w = 0; w < kWarps; ++w) total += shared.of_warps[w][threadIdx.x];
      shared.totals[threadIdx.x] = total;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      int digit = kDigits - 1;
      for (; shared.totals[digit] < target; --digit) target -= shared.totals[digit];
      shared.prefix = prefix | static_cast<Key>(digit) << shift;
      shared.target = target;
    }
    __syncthreads();
    prefix = shared.prefix;
    target = shared.target;
  }
  return prefix;
}

// One block: a vocabulary is small, and each pass over it needs the result of the one before.
__global__ void __launch_bounds__(kThreads)
    sample_kernel(Logits x, SamplingOptions options, double uniform, std::int32_t* token) {
  __shared__ Shared shared;
  const auto one = [](std::int64_t) -> Mass { return 1; };
  const Key top = select(x, 0, 1, one, shared);
  const float largest = x.values[id_of(top)];
  const bool finite = fabsf(largest) < INFINITY;
  if (!finite || options.greedy) {
    if (threadIdx.x == 0) *token = finite ? id_of(top) : -1;
    return;
  }
  const auto weight = [&](std::int64_t id) -> Mass {
    return sampling::weight(static_cast<double>(x.values[id]), static_cast<double>(largest),
                            options.temperature);
  };
  const auto mass_from = [&](Key least) {
    Mass sum = 0;
    for (std::int64_t id = threadIdx.x; id < x.count; id += kThreads)
      if (x.key(id) >= least) sum += weight(id);
    return block_sum(sum, shared.scratch);
  };
  Key least = 0;
  if (options.top_k > 0 && options.top_k < x.count)
    least = select(x, 0, static_cast<Mass>(options.top_k), one, shared);
  Mass mass = mass_from(least);
  if (options.top_p < 1.0) {
    least = select(x, least, sampling::nucleus(options.top_p, mass), weight, shared);
    mass = mass_from(least);
  }
  const Key chosen = select(x, least, sampling::drawn(uniform, mass) + 1, weight, shared);
  if (threadIdx.x == 0) *token = id_of(chosen);
}

}  // namespace

void SampleToken::cuda(const Arguments& a, ExecutionContext& context) {
  launch(context, {1, kThreads}, sample_kernel,
         Logits{device_data<float>(a.logits_V), a.logits_V.numel()}, a.options, uniform(a),
         device_data<std::int32_t>(a.token));
}

}  // namespace filigree
