// Tensors as bits: NaN payloads and the sign of zero count.
#pragma once

#include <algorithm>
#include <cstring>

#include "runtime/core/random.hpp"
#include "runtime/core/tensor.hpp"

namespace filigree::testing {

// Bytes drawn from (seed, stream), the same on every machine: any bit pattern of the dtype.
inline Tensor random_bits(const Shape& shape, DType dtype, std::uint64_t stream,
                          std::uint64_t seed = 1) {
  const Tensor tensor = Tensor::empty(shape, dtype);
  const Philox philox(seed, RandomPurpose::test, stream);
  auto* bytes = static_cast<std::uint8_t*>(tensor.raw());
  for (std::int64_t begin = 0; begin < tensor.bytes(); begin += 16) {
    const auto block = philox.bits(static_cast<std::uint64_t>(begin));
    std::memcpy(bytes + begin, block.data(),
                static_cast<std::size_t>(std::min<std::int64_t>(16, tensor.bytes() - begin)));
  }
  return tensor;
}

inline bool same_bits(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         (a.bytes() == 0 ||
          std::memcmp(a.raw(), b.raw(), static_cast<std::size_t>(a.bytes())) == 0);
}

}  // namespace filigree::testing
