#include "runtime/core/execution.hpp"

#include <utility>

namespace filigree {

void ExecutionContext::settle_work() {
  const std::vector<UncountedWork> items = std::exchange(uncounted, {});
  if (items.empty()) return;
  const auto size = static_cast<std::int64_t>(items.size());
  const Tensor gathered = empty({size, 2}, DType::i64);
  for (std::int64_t i = 0; i < size; ++i)
    copy(items[static_cast<std::size_t>(i)].pairs, gathered.rows(i, i + 1));
  const Tensor counts = download(gathered);  // waits once
  const auto* count = counts.data<std::int64_t>();
  for (const UncountedWork& item : items) {
    work[item.part].work += Work{item.flops_per_pair * count[0], item.flops_per_pair * count[1], 0};
    count += 2;
  }
}

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
