// Limited by memory: each token is read or written once, in 16-byte accesses where rows allow.
#include "kernels/cuda/device.hpp"
#include "kernels/cuda/launch.hpp"
#include "kernels/gate/pooling.hpp"

namespace filigree {
namespace {

constexpr int kThreads = 256;

// How `length` tokens of each sequence fall into blocks; a thread has kWidth neighbouring columns
// of a row.
struct Cut {
  std::int64_t length, block, blocks, columns;
  std::int64_t threads;  // of all rows that the kernel writes

  __device__ std::int64_t first_row(std::int64_t pooled) const {
    return pooled / blocks * length + pooled % blocks * block;
  }
  __device__ std::int64_t rows(std::int64_t pooled) const {
    const std::int64_t left = length - pooled % blocks * block;
    return left < block ? left : block;
  }
};

// The thread's row and first column; false past the last row.
template <int kWidth>
__device__ __forceinline__ bool place(const Cut& cut, std::int64_t& row, std::int64_t& column) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= cut.threads) return false;
  const std::int64_t packs = cut.columns / kWidth;
  row = i / packs;
  column = i % packs * kWidth;
  return true;
}

template <int kWidth, class T>
__device__ __forceinline__ Pack<T, kWidth> load(const T* from) {
  return *reinterpret_cast<const Pack<T, kWidth>*>(from);
}
template <int kWidth, class T>
__device__ __forceinline__ void store(T* to, const Pack<T, kWidth>& pack) {
  *reinterpret_cast<Pack<T, kWidth>*>(to) = pack;
}

// documents: null, or where the document of each token begins; only those of the first token's
// document count.
template <int kWidth, class T>
__global__ void __launch_bounds__(kThreads)
    mean_kernel(const T* tokens, const std::int32_t* documents, T* pooled, Cut cut) {
  std::int64_t row = 0, column = 0;
  if (!place<kWidth>(cut, row, column)) return;
  const std::int64_t first = cut.first_row(row), rows = cut.rows(row);
  float sum[kWidth] = {};
  std::int64_t count = 0;
  for (; count < rows; ++count) {
    const std::int64_t t = first + count;
    if (documents != nullptr && documents[t] != documents[first]) break;
    const auto pack = load<kWidth>(tokens + t * cut.columns + column);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sum[i] += to_float(pack.values[i]);
  }
  Pack<T, kWidth> mean;
#pragma unroll
  for (int i = 0; i < kWidth; ++i)
    mean.values[i] = from_float<T>(sum[i] / static_cast<float>(count));
  store<kWidth>(pooled + row * cut.columns + column, mean);
}

template <int kWidth, class T>
__global__ void __launch_bounds__(kThreads)
    max_min_mean_kernel(const T* k, T* kp, Cut cut, std::int64_t K) {
  std::int64_t row = 0, column = 0;
  if (!place<kWidth>(cut, row, column)) return;
  const std::int64_t first = cut.first_row(row), rows = cut.rows(row);
  float largest[kWidth], smallest[kWidth], sum[kWidth] = {};
#pragma unroll
  for (int i = 0; i < kWidth; ++i) largest[i] = -INFINITY, smallest[i] = INFINITY;
  for (std::int64_t t = 0; t < rows; ++t) {
    const auto pack = load<kWidth>(k + (first + t) * cut.columns + column);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float key = to_float(pack.values[i]);
      largest[i] = fmaxf(largest[i], key);
      smallest[i] = fminf(smallest[i], key);
      sum[i] += key;
    }
  }
  Pack<T, kWidth> pools[3];
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    pools[0].values[i] = from_float<T>(largest[i]);
    pools[1].values[i] = from_float<T>(smallest[i]);
    pools[2].values[i] = from_float<T>(sum[i] / static_cast<float>(rows));
  }
  T* const to = kp + row * 3 * cut.columns + column / K * 3 * K + column % K;
#pragma unroll
  for (int pool = 0; pool < 3; ++pool) store<kWidth>(to + pool * K, pools[pool]);
}

template <int kWidth, class T>
__global__ void __launch_bounds__(kThreads)
    mean_gradient_kernel(const T* dpooled, T* dtokens, Cut cut) {
  std::int64_t row = 0, column = 0;
  if (!place<kWidth>(cut, row, column)) return;
  const std::int64_t block = row / cut.length * cut.blocks + row % cut.length / cut.block;
  const float rows = static_cast<float>(cut.rows(block));
  auto pack = load<kWidth>(dpooled + block * cut.columns + column);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) pack.values[i] = from_float<T>(to_float(pack.values[i]) / rows);
  store<kWidth>(dtokens + row * cut.columns + column, pack);
}

// A thread has the rows of a block: they are few.
template <int kWidth, class T>
__global__ void __launch_bounds__(kThreads)
    max_min_mean_gradient_kernel(const T* k, const T* dkp, T* dk, Cut cut, std::int64_t K) {
  std::int64_t block = 0, column = 0;
  if (!place<kWidth>(cut, block, column)) return;
  const std::int64_t first = cut.first_row(block), rows = cut.rows(block);
  float largest[kWidth] = {}, smallest[kWidth] = {};
  std::int32_t largest_row[kWidth] = {}, smallest_row[kWidth] = {};
  for (std::int64_t t = 0; t < rows; ++t) {
    const auto pack = load<kWidth>(k + (first + t) * cut.columns + column);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float key = to_float(pack.values[i]);
      if (t == 0 || key > largest[i]) {
        largest[i] = key;
        largest_row[i] = static_cast<std::int32_t>(t);
      }
      if (t == 0 || key < smallest[i]) {
        smallest[i] = key;
        smallest_row[i] = static_cast<std::int32_t>(t);
      }
    }
  }
  const T* const from = dkp + block * 3 * cut.columns + column / K * 3 * K + column % K;
  Pack<T, kWidth> pools[3];
#pragma unroll
  for (int pool = 0; pool < 3; ++pool) pools[pool] = load<kWidth>(from + pool * K);
  for (std::int64_t t = 0; t < rows; ++t) {
    Pack<T, kWidth> pack;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      float sum = to_float(pools[2].values[i]) / static_cast<float>(rows);
      if (t == largest_row[i]) sum += to_float(pools[0].values[i]);
      if (t == smallest_row[i]) sum += to_float(pools[1].values[i]);
      pack.values[i] = from_float<T>(sum);
    }
    store<kWidth>(dk + (first + t) * cut.columns + column, pack);
  }
}

template <int kWidth, class T>
__global__ void __launch_bounds__(kThreads) first_row_kernel(const T* tokens, T* pooled, Cut cut) {
  std::int64_t row = 0, column = 0;
  if (!place<kWidth>(cut, row, column)) return;
  store<kWidth>(pooled + row * cut.columns + column,
                load<kWidth>(tokens + cut.first_row(row) * cut.columns + column));
}

template <int kWidth, class T>
__global__ void __launch_bounds__(kThreads)
    first_row_gradient_kernel(const T* dpooled, T* dtokens, Cut cut) {
  std::int64_t row = 0, column = 0;
  if (!place<kWidth>(cut, row, column)) return;
  const std::int64_t position = row % cut.length;
  Pack<T, kWidth> pack;
  if (position % cut.block == 0) {
    const std::int64_t block = row / cut.length * cut.blocks + position / cut.block;
    pack = load<kWidth>(dpooled + block * cut.columns + column);
  } else {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) pack.values[i] = from_float<T>(0.0f);
  }
  store<kWidth>(dtokens + row * cut.columns + column, pack);
}

// run(width, tokens, pooled, cut) with the widest accesses that rows of `run_of` columns allow, and
// the address of `other`, width an integral_constant. A kernel writes a row for each token or for
// each block.
template <class Run>
void for_columns(std::int64_t batch, std::int64_t block, const Tensor& tokens, const Tensor& pooled,
                 std::int64_t run_of, bool writes_tokens, const Run& run,
                 const Tensor& other = {}) {
  if (tokens.numel() == 0) return;
  visit_device(tokens.dtype(), [&](auto type) {
    using T = decltype(type);
    T *const from = device_data<T>(tokens), *const to = device_data<T>(pooled);
    const std::int64_t length = tokens.dim(0) / batch, columns = tokens.dim(1);
    const std::int64_t blocks = (length + block - 1) / block;
    const std::int64_t elements = (writes_tokens ? batch * length : batch * blocks) * columns;
    if (run_of % kWidest<T> == 0 && is_aligned(from, 16) && is_aligned(to, 16) &&
        is_aligned(device_data<T>(other), 16))
      run(std::integral_constant<int, kWidest<T>>(), from, to,
          Cut{length, block, blocks, columns, elements / kWidest<T>});
    else
      run(std::integral_constant<int, 1>(), from, to,
          Cut{length, block, blocks, columns, elements});
  });
}

LaunchShape shape_of(const Cut& cut) { return {blocks_for(cut.threads, kThreads), kThreads}; }

}  // namespace

void BlockMeanKeys::cuda(const Arguments& a, ExecutionContext& context) {
  for_columns(a.batch, a.key_block, a.k_TC, a.kbar_MC, a.k_TC.dim(1), false,
              [&]<class T>(auto width, const T* k, T* kbar, const Cut& cut) {
                launch(context, shape_of(cut), mean_kernel<width(), T>, k, nullptr, kbar, cut);
              });
}

void BlockMeanKeysBackward::cuda(const Arguments& a, ExecutionContext& context) {
  for_columns(a.batch, a.key_block, a.dk_TC, a.dkbar_MC, a.dk_TC.dim(1), true,
              [&]<class T>(auto width, T* dk, const T* dkbar, const Cut& cut) {
                launch(context, shape_of(cut), mean_gradient_kernel<width(), T>, dkbar, dk, cut);
              });
}

void GroupQueries::cuda(const Arguments& a, ExecutionContext& context) {
  for_columns(a.batch, a.query_block, a.q_TC, a.qg_NC, a.q_TC.dim(1), false,
              [&]<class T>(auto width, const T* q, T* qg, const Cut& cut) {
                launch(context, shape_of(cut), first_row_kernel<width(), T>, q, qg, cut);
              });
}

void GroupQueriesBackward::cuda(const Arguments& a, ExecutionContext& context) {
  for_columns(a.batch, a.query_block, a.dq_TC, a.dqg_NC, a.dq_TC.dim(1), true,
              [&]<class T>(auto width, T* dq, const T* dqg, const Cut& cut) {
                launch(context, shape_of(cut), first_row_gradient_kernel<width(), T>, dqg, dq, cut);
              });
}

void GroupMeanQueries::cuda(const Arguments& a, ExecutionContext& context) {
  const auto* const documents = device_data<std::int32_t>(a.document_begin_T);
  for_columns(a.batch, a.query_block, a.q_TC, a.qg_NC, a.q_TC.dim(1), false,
              [&]<class T>(auto width, const T* q, T* qg, const Cut& cut) {
                launch(context, shape_of(cut), mean_kernel<width(), T>, q, documents, qg, cut);
              });
}

void BlockMaxMinMeanKeys::cuda(const Arguments& a, ExecutionContext& context) {
  const std::int64_t K = a.k_TGK.dim(1) / a.kv_heads;
  for_columns(a.batch, a.key_block, a.k_TGK, a.kp_MGP, K, false,
              [&]<class T>(auto width, const T* k, T* kp, const Cut& cut) {
                launch(context, shape_of(cut), max_min_mean_kernel<width(), T>, k, kp, cut, K);
              });
}

void BlockMaxMinMeanKeysBackward::cuda(const Arguments& a, ExecutionContext& context) {
  const std::int64_t K = a.k_TGK.dim(1) / a.kv_heads;
  for_columns(
      a.batch, a.key_block, a.k_TGK, a.dkp_MGP, K, false,
      [&]<class T>(auto width, const T* k, const T* dkp, const Cut& cut) {
        launch(context, shape_of(cut), max_min_mean_gradient_kernel<width(), T>, k, dkp,
               device_data<T>(a.dk_TGK), cut, K);
      },
      a.dk_TGK);
}

}  // namespace filigree
