// Tensor maps: what the copies of boxes (TMA) know of a tensor. Made on the host, given to kernels
// as parameters.
#pragma once

#include <cuda.h>

#include "kernels/cuda/device.hpp"
#include "runtime/cuda/cuda_check.hpp"

namespace filigree {

// The driver's function of that name, found through the runtime: nothing links the driver.
inline decltype(&cuTensorMapEncodeTiled) tensor_map_encoder() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  FILIGREE_CHECK_CUDA(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                                       cudaEnableDefault, &found));
  FILIGREE_CHECK(found == cudaDriverEntryPointSuccess && function != nullptr,
                 "the driver has no cuTensorMapEncodeTiled");
  return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
}

// The bf16 tensor [batch * length, heads * K] as boxes of `rows` tokens x 64 columns of one head,
// with the 128-byte swizzle. Coordinates of a box: {column, head, token of the sequence, sequence};
// what lies outside is zero. The data is aligned to 16 bytes, K a multiple of 8.
inline CUtensorMap boxes_of_heads(const Tensor& tensor, std::int64_t batch, std::int64_t heads,
                                  std::int64_t head_dim, int rows) {
  const auto size = [](std::int64_t value) { return static_cast<cuuint64_t>(value); };
  const std::int64_t length = tensor.dim(0) / batch, token_bytes = 2 * tensor.dim(1);
  const cuuint64_t dims[4] = {size(head_dim), size(heads), size(length), size(batch)};
  const cuuint64_t strides[3] = {size(2 * head_dim), size(token_bytes), size(length * token_bytes)};
  const cuuint32_t box[4] = {64, 1, static_cast<cuuint32_t>(rows), 1}, ones[4] = {1, 1, 1, 1};
  static const auto encode = tensor_map_encoder();
  CUtensorMap map;
  const CUresult result =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, device_data<DeviceBFloat16>(tensor), dims,
             strides, box, ones, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  FILIGREE_CHECK(result == CUDA_SUCCESS, "cuTensorMapEncodeTiled refuses boxes of ", rows,
                 " tokens of a tensor ", tensor.shape(), " with ", heads, " heads: error ",
                 static_cast<int>(result));
  return map;
}

}  // namespace filigree
