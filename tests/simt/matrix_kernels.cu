#include "kernels/cuda/tile/instructions.hpp"
#include "tests/simt/device.hpp"
#include "tests/simt/kernels.hpp"

namespace simt_test {
namespace {

using filigree::tile::copy_16;
using filigree::tile::cp_async_commit;
using filigree::tile::cp_async_wait;
using filigree::tile::ldmatrix;
using filigree::tile::ldmatrix_trans;
using filigree::tile::mma_bf16;
using filigree::tile::mma_tf32;

constexpr int kDepth = 16;                          // of one step
constexpr int kStageBytes = (16 + 8) * kDepth * 2;  // a tile of A and one of B

// One warp; A is [16, depth], B [depth, 8] or, by_column, [8, depth]; two stages of copies in
// flight.
__global__ void product_kernel(const __nv_bfloat16* a, const __nv_bfloat16* b, float* out,
                               int depth, bool by_column, Mistake wrong) {
  unsigned char* stages = dynamic_shared();
  const int lane = static_cast<int>(threadIdx.x);
  const auto start = [&](int step) {
    unsigned char* stage = stages + step % 2 * kStageBytes;
    const int k = step * kDepth;
    copy_16(stage + lane * 16, a + lane / 2 * depth + k + lane % 2 * 8, 16);
    if (lane < 16) {
      const __nv_bfloat16* from =
          by_column ? b + lane / 2 * depth + k + lane % 2 * 8 : b + (k + lane) * 8;
      copy_16(stage + 512 + lane * 16, from, 16);
    }
  };
  const int steps = depth / kDepth;
  float sum[4] = {0, 0, 0, 0};
  start(0);
  cp_async_commit();
  for (int step = 0; step < steps; ++step) {
    if (step + 1 < steps) start(step + 1);
    cp_async_commit();
    if (wrong != Mistake::no_wait) cp_async_wait<1>();
    __syncwarp();
    const unsigned char* stage = stages + step % 2 * kStageBytes;
    const int shift = wrong == Mistake::fragment_off_by_one ? 1 : 0;
    const int row = lane % 8 + lane / 8 % 2 * 8, half = (lane / 16 + shift) % 2;
    std::uint32_t fragment_a[4], fragment_b[2];
    ldmatrix(fragment_a, stage + row * 32 + half * 16);
    if (by_column) {
      ldmatrix(fragment_b, stage + 512 + lane % 8 * 32 + lane / 8 % 2 * 16);
    } else {
      ldmatrix_trans(fragment_b, stage + 512 + lane % 16 * 16);
    }
    mma_bf16(sum, fragment_a, fragment_b, sum);
    __syncwarp();
  }
  for (int i = 0; i < 4; ++i) out[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sum[i];
}

// One warp; A is [16, 8], B [8, 8], both f32.
__global__ void product_tf32_kernel(const float* a, const float* b, float* out) {
  const int g = static_cast<int>(threadIdx.x) / 4, t = static_cast<int>(threadIdx.x) % 4;
  const std::uint32_t fragment_a[4] = {
      __float_as_uint(a[g * 8 + t]), __float_as_uint(a[(g + 8) * 8 + t]),
      __float_as_uint(a[g * 8 + t + 4]), __float_as_uint(a[(g + 8) * 8 + t + 4])};
  const std::uint32_t fragment_b[2] = {__float_as_uint(b[t * 8 + g]),
                                       __float_as_uint(b[(t + 4) * 8 + g])};
  float sum[4] = {0, 0, 0, 0};
  mma_tf32(sum, fragment_a, fragment_b, sum);
  for (int i = 0; i < 4; ++i) out[(g + i / 2 * 8) * 8 + t * 2 + i % 2] = sum[i];
}

}  // namespace

void product(const __nv_bfloat16* a, const __nv_bfloat16* b, float* out, int depth, bool by_column,
             cudaStream_t stream, Mistake wrong) {
  launch(product_kernel, dim3(1), dim3(32), 2 * kStageBytes, stream, a, b, out, depth, by_column,
         wrong);
}

void product_tf32(const float* a, const float* b, float* out, cudaStream_t stream) {
  launch(product_tf32_kernel, dim3(1), dim3(32), 0, stream, a, b, out);
}

}  // namespace simt_test
