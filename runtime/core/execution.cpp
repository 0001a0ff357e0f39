#include "runtime/core/execution.hpp"

#include <utility>

namespace filigree {

void ExecutionContext::settle_work() {
  const UncountedWork later = std::exchange(uncounted, {});
  Tensor counts;
  for (std::size_t i = 0; i < later.items.size(); ++i) {
    constexpr auto kRows = static_cast<std::size_t>(UncountedWork::kPerTensor);
    if (i % kRows == 0) counts = download(later.pairs[i / kRows]);
    const auto* count = counts.data<std::int64_t>() + i % kRows * 2;
    const auto& [part, flops] = later.items[i];
    work[part].work += Work{flops * count[0], flops * count[1], 0};
  }
}

Tensor ExecutionContext::count_later(WorkPart part, std::int64_t flops_per_pair) {
  const auto index = static_cast<std::int64_t>(uncounted.items.size());
  const std::int64_t row = index % UncountedWork::kPerTensor;
  uncounted.pairs.resize(static_cast<std::size_t>(index / UncountedWork::kPerTensor + 1));
  Tensor& pairs = uncounted.pairs.back();
  if (!pairs.defined()) pairs = empty({UncountedWork::kPerTensor, 2}, DType::i64);
  uncounted.items.push_back({part, flops_per_pair});
  return pairs.rows(row, row + 1).view({2});
}

void ExecutionContext::forget_work_since(const WorkMark& mark) {
  work = mark.work;
  uncounted.items.resize(mark.uncounted);
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
