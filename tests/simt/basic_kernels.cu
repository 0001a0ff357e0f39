#include "tests/simt/device.hpp"
#include "tests/simt/kernels.hpp"

namespace simt_test {
namespace {

constexpr int kThreads = 128;
constexpr int kTile = 32;

__device__ __forceinline__ int linear_thread() {
  return static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
}

__global__ void __launch_bounds__(kThreads)
    row_sums_kernel(const float* __restrict__ values, float* __restrict__ sums, int n,
                    Mistake wrong) {
  float* partial = reinterpret_cast<float*>(dynamic_shared());
  const int thread = static_cast<int>(threadIdx.x);
  const float* row = values + static_cast<std::size_t>(blockIdx.x) * n;
  float sum = 0;
  for (int i = thread; i < n; i += kThreads) sum += row[i];
  if (wrong != Mistake::uninitialised || thread != 77) {
    partial[thread + (wrong == Mistake::one_too_far ? 1 : 0)] = sum;
  }
  if (wrong == Mistake::early_exit && thread >= 96) return;
  if (wrong == Mistake::divergent) {
    if (thread < 64) __syncthreads();
  } else if (wrong != Mistake::no_barrier) {
    __syncthreads();
  }
  for (int stride = kThreads / 2; stride > 0; stride /= 2) {
    if (thread < stride) partial[thread] += partial[thread + stride];
    __syncthreads();
  }
  if (thread == 0) sums[blockIdx.x] = partial[0];
}

__global__ void transpose_kernel(const float* in, float* out, int rows, int columns,
                                 Mistake wrong) {
  __shared__ float tile[kTile][kTile + 1];
  const int x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  const int column = static_cast<int>(blockIdx.x) * kTile,
            row = static_cast<int>(blockIdx.y) * kTile;
  for (int i = y; i < kTile; i += 8) {
    if (row + i < rows && column + x < columns) {
      tile[i][x] = in[static_cast<std::size_t>(row + i) * columns + column + x];
    }
  }
  if (wrong != Mistake::no_barrier) __syncthreads();
  const int limit = wrong == Mistake::one_too_far ? rows + 1 : rows;
  for (int i = y; i < kTile; i += 8) {
    if (column + i < columns && row + x < limit) {
      out[static_cast<std::size_t>(column + i) * rows + row + x] = tile[x][i];
    }
  }
}

__global__ void warp_scan_kernel(const int* in, int* out, Mistake wrong) {
  const int i = linear_thread();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  int value = in[i];
  for (int distance = 1; distance < 32; distance *= 2) {
    if (wrong == Mistake::partial_mask && lane == 31) break;
    const int other = __shfl_up_sync(0xffffffffu, value, static_cast<unsigned>(distance));
    if (lane >= distance) value += other;
  }
  out[i] = value;
}

__global__ void warp_rotate_kernel(const int* in, int* out, Mistake wrong) {
  int* slots = reinterpret_cast<int*>(dynamic_shared());
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  int value = in[linear_thread()];
  for (int turn = 0; turn < 3; ++turn) {
    slots[thread] = value;
    if (wrong != Mistake::no_warp_barrier) __syncwarp();
    value = slots[thread - lane + (lane + 1) % 32];
    __syncwarp();
  }
  out[linear_thread()] = value;
}

__global__ void histogram_kernel(const int* values, unsigned* counts, int n, int bins) {
  unsigned* local = reinterpret_cast<unsigned*>(dynamic_shared());
  for (int bin = static_cast<int>(threadIdx.x); bin < bins; bin += static_cast<int>(blockDim.x)) {
    local[bin] = 0;
  }
  __syncthreads();
  const int i = linear_thread();
  if (i < n) atomicAdd(&local[values[i]], 1u);
  __syncthreads();
  for (int bin = static_cast<int>(threadIdx.x); bin < bins; bin += static_cast<int>(blockDim.x)) {
    atomicAdd(&counts[bin], local[bin]);
  }
}

__global__ void last_block_kernel(const float* values, float* parts, unsigned* arrived,
                                  float* total, int n) {
  __shared__ bool last;
  const int i = linear_thread();
  float sum = i < n ? values[i] : 0.0f;
  for (int distance = 16; distance > 0; distance /= 2) {
    sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  }
  if (threadIdx.x == 0) {
    parts[blockIdx.x] = sum;
    __threadfence();
    last = atomicAdd(arrived, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (last && threadIdx.x == 0) {
    float all = 0;
    for (unsigned part = 0; part < gridDim.x; ++part) all += parts[part];
    *total = all;
  }
}

__global__ void scale_kernel(const float* from, float* to, float factor, int n) {
  const int stride = static_cast<int>(gridDim.x * blockDim.x);
  for (int i = linear_thread(); i < n; i += stride) to[i] = factor * from[i] + 1.0f;
}

__global__ void race_kernel(float* to) { to[0] = static_cast<float>(blockIdx.x); }

__global__ void positions_kernel(int* to) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned i = block * blockDim.x * blockDim.y * blockDim.z + thread;
  to[i] = static_cast<int>(i);
}

__global__ void read_kernel(const float* pointer, float* to) { to[0] = *pointer; }

__global__ void next_block_kernel(int* flags) {
  atomicExch(&flags[blockIdx.x], 1);
  while (atomicAdd(&flags[(blockIdx.x + 1) % gridDim.x], 0) == 0) {
  }
}

__global__ void to_bfloat16_kernel(const float* values, unsigned short* bits, int n) {
  const int i = linear_thread();
  if (i < n) bits[i] = __bfloat16_as_ushort(__float2bfloat16_rn(values[i]));
}

__global__ void votes_kernel(const int* values, unsigned* results) {
  const int value = values[threadIdx.x];
  const unsigned whole = 0xffffffffu;
  const unsigned votes[] = {
      __ballot_sync(whole, value > 0),
      static_cast<unsigned>(__any_sync(whole, value == 7)),
      static_cast<unsigned>(__all_sync(whole, value < 100)),
      __match_any_sync(whole, value & 3),
      static_cast<unsigned>(__reduce_add_sync(whole, value)),
      static_cast<unsigned>(__reduce_min_sync(whole, value)),
      static_cast<unsigned>(__reduce_max_sync(whole, value)),
      __reduce_xor_sync(whole, static_cast<unsigned>(value)),
      static_cast<unsigned>(__syncthreads_count(value > 0)),
      static_cast<unsigned>(__syncthreads_or(value == 7)),
      static_cast<unsigned>(__syncthreads_and(value < 100)),
  };
  if (threadIdx.x == 0)
    for (unsigned i = 0; i < sizeof(votes) / sizeof(votes[0]); ++i) results[i] = votes[i];
}

}  // namespace

void row_sums(const float* values, float* sums, int rows, int n, cudaStream_t stream,
              Mistake wrong) {
  launch(row_sums_kernel, dim3(rows), dim3(kThreads), kThreads * sizeof(float), stream, values,
         sums, n, wrong);
}

void transpose(const float* in, float* out, int rows, int columns, cudaStream_t stream,
               Mistake wrong) {
  const dim3 grid((columns + kTile - 1) / kTile, (rows + kTile - 1) / kTile);
  launch(transpose_kernel, grid, dim3(kTile, 8), 0, stream, in, out, rows, columns, wrong);
}

void warp_scan(const int* in, int* out, int n, cudaStream_t stream, Mistake wrong) {
  launch(warp_scan_kernel, dim3(n / 32), dim3(32), 0, stream, in, out, wrong);
}

void warp_rotate(const int* in, int* out, int n, cudaStream_t stream, Mistake wrong) {
  launch(warp_rotate_kernel, dim3(n / 64), dim3(64), 64 * sizeof(int), stream, in, out, wrong);
}

void histogram(const int* values, unsigned* counts, int n, int bins, cudaStream_t stream) {
  launch(histogram_kernel, dim3((n + 95) / 96), dim3(96), bins * sizeof(unsigned), stream, values,
         counts, n, bins);
}

void total_by_last_block(const float* values, float* parts, unsigned* arrived, float* total, int n,
                         cudaStream_t stream) {
  launch(last_block_kernel, dim3((n + 31) / 32), dim3(32), 0, stream, values, parts, arrived, total,
         n);
}

void scale(const float* from, float* to, float factor, int n, cudaStream_t stream) {
  launch(scale_kernel, dim3(4), dim3(64), 0, stream, from, to, factor, n);
}

void race_in_device_memory(float* to, cudaStream_t stream) {
  launch(race_kernel, dim3(2), dim3(1), 0, stream, to);
}

void write_positions(int* to, dim3 grid, dim3 block, cudaStream_t stream) {
  launch(positions_kernel, grid, block, 0, stream, to);
}

void read_from(const float* pointer, float* to, cudaStream_t stream) {
  launch(read_kernel, dim3(1), dim3(1), 0, stream, pointer, to);
}

void wait_for_next_block(int* flags, cudaStream_t stream) {
  launch(next_block_kernel, dim3(3), dim3(1), 0, stream, flags);
}

void to_bfloat16(const float* values, unsigned short* bits, int n, cudaStream_t stream) {
  launch(to_bfloat16_kernel, dim3((n + 63) / 64), dim3(64), 0, stream, values, bits, n);
}

void votes(const int* values, unsigned* results, cudaStream_t stream) {
  launch(votes_kernel, 1, 32, 0, stream, values, results);
}

}  // namespace simt_test
