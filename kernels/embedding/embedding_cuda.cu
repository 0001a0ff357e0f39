#include "kernels/cuda/device.hpp"
#include "kernels/cuda/launch.hpp"
#include "kernels/elementwise/floating.hpp"
#include "kernels/embedding/embedding.hpp"

namespace filigree {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    lookup_kernel(const std::int32_t* ids, const T* w, T* y, std::int64_t tokens, std::int64_t rows,
                  std::int64_t D, std::int64_t first_row) {
  using Wide = Pack<T, kWidth>;
  const std::int64_t packs = D / kWidth;
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= tokens * packs) return;
  const std::int64_t row = ids[i / packs] - first_row, column = i % packs * kWidth;
  Wide value;
  if (row >= 0 && row < rows) {
    value = *reinterpret_cast<const Wide*>(w + row * D + column);
  } else {
#pragma unroll
    for (int e = 0; e < kWidth; ++e) value.values[e] = from_float<T>(0.0f);
  }
  *reinterpret_cast<Wide*>(y + i * kWidth) = value;
}

constexpr int kRowsPerWarp = 4;
constexpr int kRows = kWarps * kRowsPerWarp;  // of the table, that a block adds up
constexpr int kTokens = 1024;                 // that a block looks through at a time
constexpr int kPerThread = kTokens / kThreads;
constexpr int kInFlight = 4;  // rows of dy that a warp has asked for before it adds the first

// Tokens of one chunk that fall into the rows of a block, in ascending order.
struct Found {
  std::int32_t warp_counts[kWarps];
  std::int32_t count;
  std::int16_t token[kTokens], row[kTokens];  // within the chunk, within the block's rows
};

__device__ __forceinline__ void find_tokens(const std::int32_t* ids, std::int64_t tokens,
                                            std::int64_t first_id, Found& found) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  std::int64_t row[kPerThread];
  unsigned hits[kPerThread];
  int count = 0;
#pragma unroll
  for (int k = 0; k < kPerThread; ++k) {  // a warp reads neighbours: kWarp * kPerThread of them
    const int t = (warp * kPerThread + k) * kWarp + lane;
    row[k] = t < tokens ? ids[t] - first_id : -1;
    hits[k] = __ballot_sync(kWholeWarp, row[k] >= 0 && row[k] < kRows);
    count += __popc(hits[k]);
  }
  if (lane == 0) found.warp_counts[warp] = count;
  __syncthreads();
  int place = 0;
  for (int before = 0; before < warp; ++before) place += found.warp_counts[before];
  if (threadIdx.x == kThreads - 1) found.count = place + count;
#pragma unroll
  for (int k = 0; k < kPerThread; ++k) {
    if ((hits[k] >> lane & 1u) != 0) {
      const int at = place + __popc(hits[k] & ((1u << lane) - 1u));
      found.token[at] = static_cast<std::int16_t>((warp * kPerThread + k) * kWarp + lane);
      found.row[at] = static_cast<std::int16_t>(row[k]);
    }
    place += __popc(hits[k]);
  }
  __syncthreads();
}

// sum += the rows of dy whose tokens were found for `row`, in ascending order.
template <class T, int kWidth>
__device__ __forceinline__ void add_tokens(const Found& found, int row, const T* dy, std::int64_t D,
                                           bool is_inside, float (&sum)[kWidth]) {
  using Wide = Pack<T, kWidth>;
  const int lane = threadIdx.x % kWarp;
  for (int base = 0; base < found.count; base += kWarp) {
    const int at = base + lane;
    unsigned mine = __ballot_sync(kWholeWarp, at < found.count && found.row[at] == row);
    while (mine != 0) {
      Wide part[kInFlight] = {};
      int taken = 0;
#pragma unroll
      for (int k = 0; k < kInFlight; ++k) {
        if (mine == 0) break;
        const int from = base + __ffs(static_cast<int>(mine)) - 1;
        mine &= mine - 1;
        if (is_inside) part[k] = *reinterpret_cast<const Wide*>(dy + found.token[from] * D);
        ++taken;
      }
#pragma unroll
      for (int k = 0; k < kInFlight; ++k) {
        if (k >= taken) break;
#pragma unroll
        for (int e = 0; e < kWidth; ++e) sum[e] += to_float(part[k].values[e]);
      }
    }
  }
}

// A block owns kRows rows of the table, a warp kRowsPerWarp of them and a lane kWidth columns: each
// element is added up by one thread, in ascending order of tokens, without atomics. All tokens pass
// by every block; 32 rows share a look at them.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    table_gradient_kernel(const std::int32_t* ids, const T* dy, float* dw, std::int64_t tokens,
                          std::int64_t rows, std::int64_t D, std::int64_t first_row,
                          bool accumulate) {
  __shared__ Found found;
  const int lane = threadIdx.x % kWarp, first_of_warp = threadIdx.x / kWarp * kRowsPerWarp;
  const std::int64_t block_row = static_cast<std::int64_t>(blockIdx.x) * kRows;
  const std::int64_t column = (static_cast<std::int64_t>(blockIdx.y) * kWarp + lane) * kWidth;
  const bool is_inside = column < D;
  using Wide = Pack<float, kWidth>;
  const auto at = [&](int r) {
    return reinterpret_cast<Wide*>(dw + (block_row + first_of_warp + r) * D + column);
  };
  const auto exists = [&](int r) { return is_inside && block_row + first_of_warp + r < rows; };
  float sum[kRowsPerWarp][kWidth] = {};
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) {
    if (!accumulate || !exists(r)) continue;
#pragma unroll
    for (int e = 0; e < kWidth; ++e) sum[r][e] = at(r)->values[e];
  }
  for (std::int64_t chunk = 0; chunk < tokens; chunk += kTokens) {
    find_tokens(ids + chunk, tokens - chunk, first_row + block_row, found);
#pragma unroll
    for (int r = 0; r < kRowsPerWarp; ++r)
      add_tokens<T, kWidth>(found, first_of_warp + r, dy + chunk * D + column, D, is_inside,
                            sum[r]);
    __syncthreads();
  }
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) {
    if (!exists(r)) continue;
#pragma unroll
    for (int e = 0; e < kWidth; ++e) at(r)->values[e] = sum[r][e];
  }
}

}  // namespace

void EmbeddingForward::cuda(const Arguments& a, ExecutionContext& context) {
  const std::int64_t tokens = a.ids_T.numel(), rows = a.w_VD.dim(0), D = a.w_VD.dim(1);
  visit_device(a.w_VD.dtype(), [&](auto type) {
    using T = decltype(type);
    const T* const w = device_data<T>(a.w_VD);
    T* const y = device_data<T>(a.y_TD);
    const bool wide = D % kWidest<T> == 0 && is_aligned(w, 16) && is_aligned(y, 16);
    const std::int64_t packs = tokens * D / (wide ? kWidest<T> : 1);
    launch(context, {blocks_for(packs, kThreads), kThreads},
           wide ? lookup_kernel<T, kWidest<T>> : lookup_kernel<T, 1>,
           device_data<std::int32_t>(a.ids_T), w, y, tokens, rows, D, a.first_row);
  });
}

void EmbeddingBackward::cuda(const Arguments& a, ExecutionContext& context) {
  const std::int64_t tokens = a.ids_T.numel(), rows = a.dw_VD.dim(0), D = a.dw_VD.dim(1);
  visit_device(a.dy_TD.dtype(), [&](auto type) {
    using T = decltype(type);
    constexpr int kWidth = 4;  // 16 bytes of dw
    const T* const dy = device_data<T>(a.dy_TD);
    float* const dw = device_data<float>(a.dw_VD);
    const bool wide = D % kWidth == 0 && is_aligned(dy, sizeof(T) * kWidth) && is_aligned(dw, 16);
    const unsigned tiles = blocks_for(D, kWarp * (wide ? kWidth : 1));
    launch(context, {dim3(blocks_for(rows, kRows), tiles), kThreads},
           wide ? table_gradient_kernel<T, kWidth> : table_gradient_kernel<T, 1>,
           device_data<std::int32_t>(a.ids_T), dy, dw, tokens, rows, D, a.first_row, a.accumulate);
  });
}

}  // namespace filigree
