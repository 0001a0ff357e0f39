// What the three attention kernels share. Each is compiled for the head widths below, narrower
// heads padded with zeros, in two sizes: many rows for long runs of queries (backward: keys) with
// one list, one warp's rows for small groups.
#pragma once

#include "kernels/attention/attention_cuda_pattern.hpp"
#include "kernels/attention/attention_implementations.hpp"
#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/tile/softmax.hpp"

namespace filigree {

constexpr int kWidestHead = 128;

std::optional<std::string> reject_attention_cuda(const AttentionShape& shape, const Tensor& q);

// Shared memory and registers limit f32, whose tiles are twice as large.
template <class T, int kWidth>
constexpr bool kIsLarge = std::is_same_v<T, float>&& kWidth == 128;
template <class T, int kWidth>
constexpr int kManyWarps = kIsLarge<T, kWidth> ? 2 : 4;
template <class T, int kWidth, int kWarps>
constexpr int kForwardColumns = kIsLarge<T, kWidth>                       ? 16
                                : std::is_same_v<T, float> || kWarps == 1 ? 32
                                                                          : 64;
template <class T, int kWidth, int kWarps>
constexpr int kBackwardColumns = kIsLarge<T, kWidth>                       ? 16
                                 : std::is_same_v<T, float> || kWarps == 1 ? 32
                                 : kWidth == 128                           ? 32
                                                                           : 64;

// Tensors [tokens, heads * K] as the rows of one head.
template <class T>
struct HeadTensor {
  T* data;
  std::int64_t stride;  // elements of a token
  int width;
  bool is_aligned;

  // Rows of one sequence, which begins at `token`.
  __device__ tile::RowsOfHead<T> head(std::int64_t token, int head) const {
    return {data + token * stride + static_cast<std::int64_t>(head) * width, stride, width,
            is_aligned};
  }
};

template <class T>
HeadTensor<T> head_tensor(const Tensor& tensor, const AttentionShape& shape) {
  using Element = std::remove_const_t<T>;
  Element* const data = device_data<Element>(tensor);
  const bool is_aligned = shape.head_dim % kWidest<Element> == 0 && filigree::is_aligned(data, 16);
  return {data, tensor.dim(1), static_cast<int>(shape.head_dim), is_aligned};
}

// Calls function(i, column, j, n, sum) for this lane's sums: of its row i (0 or 1), and sums[j][n].
template <int kTiles, class Function>
__device__ __forceinline__ void for_each_sum(float (&sums)[kTiles][4], const Function& function) {
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int j = 0; j < kTiles; ++j)
#pragma unroll
    for (int n = 0; n < 4; ++n) function(n / 2, 8 * j + 2 * t + n % 2, j, n, sums[j][n]);
}

// Writes down the next tile of keys of a walk in place `at` of three, for who has them as columns.
template <class Shared>
__device__ ColumnTile describe_keys(const DevicePattern& p, Walk& walk, std::int64_t list,
                                    Shared& shared, int at) {
  const int column = static_cast<int>(threadIdx.x);
  const ColumnTile tile = walk.take<Shared::kColumns>(column);
  if (column < Shared::kColumns) {
    shared.key[at][column] = tile.item;
    shared.slot[at][column] = tile.slot;
    shared.bias[at][column] =
        p.bias != nullptr && tile.slot >= 0 ? p.bias[list * p.slots + tile.slot] : 0.0f;
  }
  return tile;
}

// Calls body(width constant) for the narrowest head that holds K.
template <class Body>
void visit_width(std::int64_t head_dim, const Body& body) {
  if (head_dim <= 16) return body(std::integral_constant<int, 16>{});
  if (head_dim <= 32) return body(std::integral_constant<int, 32>{});
  if (head_dim <= 64) return body(std::integral_constant<int, 64>{});
  return body(std::integral_constant<int, 128>{});
}

// Calls body(warps constant): one warp where its rows would leave most of more warps idle.
template <int kMany, class Body>
void visit_warps(std::int64_t rows, const Body& body) {
  if (rows <= 8 * kMany) return body(std::integral_constant<int, 1>{});
  return body(std::integral_constant<int, kMany>{});
}

// Runs of query_block rows: the groups of the lists, or rows from the first one on.
inline unsigned query_runs(const AttentionShape& shape, const DevicePattern& pattern) {
  return pattern.counts == nullptr ? blocks_for(shape.query_length, pattern.query_block)
                                   : static_cast<unsigned>(pattern.groups);
}

// Launches with more shared memory than a kernel has without asking.
template <class... Parameters>
void launch_tiles(const ExecutionContext& context, const LaunchShape& shape,
                  void (*kernel)(Parameters...), std::type_identity_t<Parameters>... arguments) {
  FILIGREE_CHECK_CUDA(cudaSetDevice(context.device.index));
  FILIGREE_CHECK_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                           static_cast<int>(shape.shared_bytes)));
  launch(context, shape, kernel, arguments...);
}

}  // namespace filigree
