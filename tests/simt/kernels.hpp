// Host entries of the test kernels. `wrong` names a mistake to make, for the tests that expect a
// fault.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

namespace simt_test {

enum class Mistake {
  none,
  no_barrier,          // __syncthreads left out
  no_warp_barrier,     // __syncwarp left out
  one_too_far,         // an index past the end
  uninitialised,       // shared memory read that nobody wrote
  divergent,           // some threads skip the barrier
  early_exit,          // some threads return before the barrier
  partial_mask,        // a warp collective by fewer lanes than its mask names
  no_wait,             // the wait for an asynchronous copy left out
  fragment_off_by_one  // a wrong element of a matrix fragment
};

// sum[b] = sum of the `n` values of row b; one block of 128 threads for each of `rows`.
void row_sums(const float* values, float* sums, int rows, int n, cudaStream_t stream,
              Mistake wrong = Mistake::none);
// out[c,r] = in[r,c] through tiles of 32 x 32 in static shared memory.
void transpose(const float* in, float* out, int rows, int columns, cudaStream_t stream,
               Mistake wrong = Mistake::none);
// out[i] = in[0] + ... + in[i] within each 32 values, by shuffles; n % 32 == 0.
void warp_scan(const int* in, int* out, int n, cudaStream_t stream, Mistake wrong = Mistake::none);
// Values pass from lane to lane through shared memory between __syncwarp.
void warp_rotate(const int* in, int* out, int n, cudaStream_t stream,
                 Mistake wrong = Mistake::none);
// counts[v] += number of times v occurs in values; atomics in shared and in global memory.
void histogram(const int* values, unsigned* counts, int n, int bins, cudaStream_t stream);
// total[0] = sum of values, the last block to finish adds the blocks' parts in order.
void total_by_last_block(const float* values, float* parts, unsigned* arrived, float* total, int n,
                         cudaStream_t stream);
// to[i] = factor * from[i] + 1.
void scale(const float* from, float* to, float factor, int n, cudaStream_t stream);
// Every thread writes to[0]: a race between blocks.
void race_in_device_memory(float* to, cudaStream_t stream);
// to[i] = i with 3-dimensional grids and blocks; n is a multiple of 4 * 6.
void write_positions(int* to, dim3 grid, dim3 block, cudaStream_t stream);
// to[0] = *pointer.
void read_from(const float* pointer, float* to, cudaStream_t stream);
// Spins on a flag that the next block would set.
void wait_for_next_block(int* flags, cudaStream_t stream);
// Of 32 values: ballot of v > 0, any v == 7, all v < 100, lanes that match lane 0 in v & 3, sum,
// minimum, maximum, exclusive or, then count of v > 0, or, and over the block; 11 results.
void votes(const int* values, unsigned* results, cudaStream_t stream);
// bits[i] = bfloat16 bits of values[i], rounded on the device.
void to_bfloat16(const float* values, unsigned short* bits, int n, cudaStream_t stream);
// out[16, 8] = a[16, depth] b by matrix instructions; b is [depth, 8] or, by_column, [8, depth].
void product(const __nv_bfloat16* a, const __nv_bfloat16* b, float* out, int depth, bool by_column,
             cudaStream_t stream, Mistake wrong = Mistake::none);
// out[16, 8] = a[16, 8] b[8, 8] in tf32.
void product_tf32(const float* a, const float* b, float* out, cudaStream_t stream);

}  // namespace simt_test
