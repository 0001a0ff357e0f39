#include "runtime/core/execution.hpp"

namespace filigree {

Tensor ExecutionContext::zeros(const Shape& shape, DType dtype, MemoryUse use) const {
  const Tensor result = empty(shape, dtype, use);
  zero(result);
  return result;
}

Tensor ExecutionContext::clone(const Tensor& source, MemoryUse use) const {
  const Tensor result = empty(source.shape(), source.dtype(), use);
  copy(source, result);
  return result;
}

void ExecutionContext::zero(const Tensor& tensor) const {
  if (!stream)
    tensor.zero();
  else if (tensor.numel() > 0)
    stream->fill(tensor.raw(), 0, tensor.bytes());
}

void ExecutionContext::copy(const Tensor& from, const Tensor& to) const {
  if (stream)
    filigree::copy(*stream, from, to);
  else
    to.copy_from(from);
}

Tensor ExecutionContext::upload(const Tensor& host, MemoryUse use) const {
  if (!stream || !host.defined() || host.device() == device) return host;
  const Tensor result = empty(host.shape(), host.dtype(), use);
  filigree::copy(*stream, host, result);
  return result;
}

Tensor ExecutionContext::download(const Tensor& tensor) const {
  return stream && tensor.defined() && tensor.device() == device ? to_host(*stream, tensor)
                                                                 : tensor;
}

}  // namespace filigree
