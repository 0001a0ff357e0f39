#include "runtime/core/stream.hpp"

namespace filigree {

void copy(Stream& stream, const Tensor& from, const Tensor& to) {
  FILIGREE_CHECK(from.dtype() == to.dtype(), "copy of ", name_of(from.dtype()), " to ",
                 name_of(to.dtype()));
  FILIGREE_CHECK(from.numel() == to.numel(), "copy of ", from.shape(), " to ", to.shape());
  if (from.numel() == 0) return;
  if (from.device().kind == DeviceKind::cpu)
    stream.upload(from.raw(), to.raw(), from.bytes());
  else
    stream.copy(from.raw(), to.raw(), from.bytes());
}

Tensor to_host(Stream& stream, const Tensor& tensor) {
  const Tensor result = Tensor::empty(tensor.shape(), tensor.dtype());
  copy(stream, tensor, result);
  stream.synchronize();
  return result;
}

Tensor to_device(Stream& stream, const Tensor& tensor, const std::shared_ptr<Allocator>& allocator,
                 MemoryUse use) {
  const Tensor result = Tensor::empty(tensor.shape(), tensor.dtype(), allocator, use);
  copy(stream, tensor, result);
  return result;
}

}  // namespace filigree
