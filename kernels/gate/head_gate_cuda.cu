// Limited by memory, but for the running sums over blocks, which are one chain of additions for
// each column: blocks are few, and their loads do not wait for one another.
#include "kernels/cuda/device.hpp"
#include "kernels/cuda/launch.hpp"
#include "kernels/gate/candidates.hpp"
#include "kernels/gate/head_gate.hpp"

namespace filigree {
namespace {

constexpr int kThreads = 256;

__device__ __forceinline__ std::int64_t thread_index() {
  return static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
}

// The first block that lies whole in the document of block m's first token: where the candidates
// of that document's groups begin. At most m.
__device__ std::int64_t chain_begin(const GridView& grid, std::int64_t b, std::int64_t m) {
  if (grid.document_begin == nullptr) return 0;
  const std::int64_t document = grid.document_begin[b * grid.key_length + m * grid.key_block];
  return (document + grid.key_block - 1) / grid.key_block;
}

// sums[b,m,c] = sum of kbar from chain_begin(m) to m, ascending. A thread for each column.
template <class T>
__global__ void __launch_bounds__(kThreads)
    running_sum_kernel(GridView grid, const T* kbar, float* sums, std::int64_t C) {
  const std::int64_t i = thread_index(), M = grid.key_blocks();
  if (i >= grid.batch * C) return;
  const std::int64_t b = i / C, first = b * M * C + i % C;
  float sum = 0.0f;
#pragma unroll 8
  for (std::int64_t m = 0; m < M; ++m) {
    const float value = to_float(kbar[first + m * C]);
    sum = chain_begin(grid, b, m) == m ? value : sum + value;
    sums[first + m * C] = sum;
  }
}

template <int kWidth, class T>
__global__ void __launch_bounds__(kThreads)
    finished_mean_kernel(const DeviceCandidates* candidates_BN, const float* sums, T* y,
                         std::int64_t rows, std::int64_t N, std::int64_t M, std::int64_t C) {
  const std::int64_t i = thread_index() * kWidth, row = i / C;
  if (row >= rows) return;
  const DeviceCandidates candidates = candidates_BN[row];
  Pack<float, kWidth> sum = {};
  if (candidates.size() > 0)
    sum = *reinterpret_cast<const Pack<float, kWidth>*>(
        sums + (row / N * M + candidates.end - 1) * C + i % C);
  const float count = static_cast<float>(candidates.size() > 0 ? candidates.size() : 1);
  Pack<T, kWidth> mean;
#pragma unroll
  for (int k = 0; k < kWidth; ++k) mean.values[k] = from_float<T>(sum.values[k] / count);
  *reinterpret_cast<Pack<T, kWidth>*>(y + i) = mean;
}

// Groups [begin, end) among which are all whose last candidate is block m.
__device__ BlockRange groups_before(const GridView& grid, std::int64_t m) {
  const std::int64_t N = grid.groups();
  if (!grid.causal) return {m + 1 == grid.key_blocks() ? 0 : N, N};
  const auto first_from = [&](std::int64_t position) {
    const std::int64_t n = (position + grid.query_block - 1) / grid.query_block;
    return GridSizes::smaller(N, GridSizes::larger(0, n - grid.first_group()));
  };
  return {first_from((grid.block_causal ? m : m + 1) * grid.key_block),
          first_from((m + 2) * grid.key_block)};
}

// sums[b,m,c] = sum of dy[n] / candidates over the groups n whose last candidate is m.
template <class T>
__global__ void __launch_bounds__(kThreads)
    last_candidate_kernel(GridView grid, const DeviceCandidates* candidates_BN, const T* dy,
                          float* sums, std::int64_t C) {
  const std::int64_t i = thread_index(), M = grid.key_blocks(), N = grid.groups();
  if (i >= grid.batch * M * C) return;
  const std::int64_t b = i / C / M, m = i / C % M;
  const BlockRange groups = groups_before(grid, m);
  float sum = 0.0f;
  for (std::int64_t n = groups.begin; n < groups.end; ++n) {
    const DeviceCandidates candidates = candidates_BN[b * N + n];
    if (candidates.size() > 0 && candidates.end == m + 1)
      sum += to_float(dy[(b * N + n) * C + i % C]) / static_cast<float>(candidates.size());
  }
  sums[i] = sum;
}

// What the later groups of a document give reaches all of their candidates: a sum that grows from
// the last block of a document to its first.
template <class T>
__global__ void __launch_bounds__(kThreads)
    running_gradient_kernel(GridView grid, const float* sums, T* dkbar, std::int64_t C) {
  const std::int64_t i = thread_index(), M = grid.key_blocks();
  if (i >= grid.batch * C) return;
  const std::int64_t b = i / C, first = b * M * C + i % C;
  float sum = 0.0f;
#pragma unroll 8
  for (std::int64_t m = M - 1; m >= 0; --m) {
    const bool continues = m + 1 < M && chain_begin(grid, b, m + 1) <= m;
    sum = continues ? sum + sums[first + m * C] : sums[first + m * C];
    dkbar[first + m * C] = from_float<T>(sum);
  }
}

// A score for each group and head: small.
template <class T>
__global__ void __launch_bounds__(kThreads)
    gate_kernel(const T* a, const T* b, float* s, std::int64_t count) {
  const std::int64_t i = thread_index();
  if (i < count) s[i] = 1.0f / (1.0f + expf(-(to_float(a[i]) + to_float(b[i]))));
}
template <class T>
__global__ void __launch_bounds__(kThreads)
    gate_gradient_kernel(const float* s, const float* ds, T* d, std::int64_t count) {
  const std::int64_t i = thread_index();
  if (i < count) d[i] = from_float<T>(ds[i] * s[i] * (1.0f - s[i]));
}

struct Gate {
  GridView grid;
  const float* s_NH;
  const std::uint8_t* dense_heads_H;  // may be null
  std::int64_t K;

  // Whether the gate has a say over group n of head h.
  __device__ bool is_asked(std::int64_t b, std::int64_t n, std::int64_t h) const {
    return (dense_heads_H == nullptr || dense_heads_H[h] == 0) && !spans_documents(grid, b, n);
  }
  __device__ float factor(std::int64_t b, std::int64_t n, std::int64_t h) const {
    return is_asked(b, n, h) ? s_NH[(b * grid.groups() + n) * grid.heads + h] : 1.0f;
  }
};

template <int kWidth, class T>
__device__ __forceinline__ Pack<T, kWidth> scaled(Pack<T, kWidth> pack, float factor) {
#pragma unroll
  for (int k = 0; k < kWidth; ++k)
    pack.values[k] = from_float<T>(factor * to_float(pack.values[k]));
  return pack;
}

template <int kWidth, class T>
__global__ void __launch_bounds__(kThreads)
    scale_kernel(Gate gate, const T* o, T* y, std::int64_t count) {
  const std::int64_t i = thread_index() * kWidth;
  if (i >= count) return;
  const GridView& grid = gate.grid;
  const std::int64_t h = i / gate.K % grid.heads, t = i / gate.K / grid.heads;
  const std::int64_t b = t / grid.query_length;
  const std::int64_t position = grid.query_offset + t % grid.query_length;
  const float factor = gate.factor(b, position / grid.query_block - grid.first_group(), h);
  *reinterpret_cast<Pack<T, kWidth>*>(y + i) =
      scaled<kWidth, T>(*reinterpret_cast<const Pack<T, kWidth>*>(o + i), factor);
}

// A warp for each group and head. Products of either sign: summed up in f64.
template <int kWidth, class T>
__global__ void __launch_bounds__(kThreads)
    scale_gradient_kernel(Gate gate, const T* o, const T* dy, T* d_o, float* ds) {
  using Wide = Pack<T, kWidth>;
  const GridView& grid = gate.grid;
  const std::int64_t N = grid.groups(), H = grid.heads, row = thread_index() / kWarp;
  if (row >= grid.batch * N * H) return;
  const std::int64_t b = row / H / N, n = row / H % N, h = row % H;
  const float factor = gate.factor(b, n, h);
  const BlockRange tokens = rows_of_group(grid, b, n);
  const std::int64_t packs = gate.K / kWidth;
  double sum = 0.0;
  for (std::int64_t i = threadIdx.x % kWarp; i < tokens.size() * packs; i += kWarp) {
    const std::int64_t at = ((tokens.begin + i / packs) * H + h) * gate.K + i % packs * kWidth;
    const Wide gradient = *reinterpret_cast<const Wide*>(dy + at);
    const Wide value = *reinterpret_cast<const Wide*>(o + at);
#pragma unroll
    for (int k = 0; k < kWidth; ++k)
      sum += static_cast<double>(to_float(gradient.values[k])) *
             static_cast<double>(to_float(value.values[k]));
    *reinterpret_cast<Wide*>(d_o + at) = scaled<kWidth, T>(gradient, factor);
  }
  sum = warp_sum(sum);
  if (threadIdx.x % kWarp == 0) ds[row] = gate.is_asked(b, n, h) ? static_cast<float>(sum) : 0.0f;
}

LaunchShape threads_of(std::int64_t count) { return {blocks_for(count, kThreads), kThreads}; }

// run(width) with the widest accesses that runs of so many elements in these tensors allow.
template <class T, class Run>
void with_width(std::int64_t run_of, std::initializer_list<const Tensor*> tensors, const Run& run) {
  bool is_wide = run_of % kWidest<T> == 0;
  for (const Tensor* tensor : tensors) is_wide = is_wide && is_aligned(tensor->raw(), 16);
  if (is_wide)
    run(std::integral_constant<int, kWidest<T>>());
  else
    run(std::integral_constant<int, 1>());
}

template <class Arguments>
Gate gate_of(const Arguments& a) {
  return {.grid = a.grid.view(),
          .s_NH = device_data<float>(a.s_NH),
          .dense_heads_H = device_data<std::uint8_t>(a.dense_heads_H),
          .K = a.o_THK.dim(1) / a.grid.heads};
}

}  // namespace

void FinishedKeyMean::cuda(const Arguments& a, ExecutionContext& context) {
  const GridView grid = a.grid.view();
  const CandidateTable candidates(grid, context);
  const Tensor sums = context.empty(a.kbar_MC.shape(), DType::f32);
  const std::int64_t C = a.kbar_MC.dim(1), rows = grid.batch * grid.groups();
  visit_device(a.kbar_MC.dtype(), [&](auto type) {
    using T = decltype(type);
    launch(context, threads_of(grid.batch * C), running_sum_kernel<T>, grid,
           device_data<T>(a.kbar_MC), device_data<float>(sums), C);
    with_width<T>(C, {&sums, &a.y_NC}, [&](auto width) {
      launch(context, threads_of(rows * C / width()), finished_mean_kernel<width(), T>,
             candidates.data(), device_data<float>(sums), device_data<T>(a.y_NC), rows,
             grid.groups(), grid.key_blocks(), C);
    });
  });
}

void FinishedKeyMeanBackward::cuda(const Arguments& a, ExecutionContext& context) {
  const GridView grid = a.grid.view();
  const CandidateTable candidates(grid, context);
  const Tensor sums = context.empty(a.dkbar_MC.shape(), DType::f32);
  const std::int64_t C = a.dkbar_MC.dim(1);
  visit_device(a.dkbar_MC.dtype(), [&](auto type) {
    using T = decltype(type);
    launch(context, threads_of(sums.numel()), last_candidate_kernel<T>, grid, candidates.data(),
           device_data<T>(a.dy_NC), device_data<float>(sums), C);
    launch(context, threads_of(grid.batch * C), running_gradient_kernel<T>, grid,
           device_data<float>(sums), device_data<T>(a.dkbar_MC), C);
  });
}

void HeadGateForward::cuda(const Arguments& a, ExecutionContext& context) {
  visit_device(a.a_NH.dtype(), [&](auto type) {
    using T = decltype(type);
    launch(context, threads_of(a.s_NH.numel()), gate_kernel<T>, device_data<T>(a.a_NH),
           device_data<T>(a.b_NH), device_data<float>(a.s_NH), a.s_NH.numel());
  });
}

void HeadGateBackward::cuda(const Arguments& a, ExecutionContext& context) {
  visit_device(a.d_NH.dtype(), [&](auto type) {
    using T = decltype(type);
    launch(context, threads_of(a.d_NH.numel()), gate_gradient_kernel<T>, device_data<float>(a.s_NH),
           device_data<float>(a.ds_NH), device_data<T>(a.d_NH), a.d_NH.numel());
  });
}

void ScaleHeads::cuda(const Arguments& a, ExecutionContext& context) {
  const Gate gate = gate_of(a);
  visit_device(a.o_THK.dtype(), [&](auto type) {
    using T = decltype(type);
    with_width<T>(gate.K, {&a.o_THK, &a.y_THK}, [&](auto width) {
      launch(context, threads_of(a.o_THK.numel() / width()), scale_kernel<width(), T>, gate,
             device_data<T>(a.o_THK), device_data<T>(a.y_THK), a.o_THK.numel());
    });
  });
}

void ScaleHeadsBackward::cuda(const Arguments& a, ExecutionContext& context) {
  const Gate gate = gate_of(a);
  visit_device(a.o_THK.dtype(), [&](auto type) {
    using T = decltype(type);
    with_width<T>(gate.K, {&a.o_THK, &a.dy_THK, &a.do_THK}, [&](auto width) {
      launch(context, threads_of(a.s_NH.numel() * kWarp), scale_gradient_kernel<width(), T>, gate,
             device_data<T>(a.o_THK), device_data<T>(a.dy_THK), device_data<T>(a.do_THK),
             device_data<float>(a.ds_NH));
    });
  });
}

}  // namespace filigree
