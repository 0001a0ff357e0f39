#include "runtime/core/step_number.hpp"

#include <algorithm>

namespace filigree {

bool StepRecord::advance(std::int64_t number) const {
  return std::all_of(entries_.begin(), entries_.end(),
                     [&](const auto& entry) { return entry(number); });
}

// Data go through pinned memory of their own: a captured copy reads it at every launch.
Tensor StepNumber::data(const ExecutionContext& execution,
                        const std::function<Tensor(std::int64_t)>& make) const {
  const Tensor host = make(number_);
  if (record_ == nullptr) return execution.upload(host, MemoryUse::data);
  const Tensor slot = Tensor::empty(host.shape(), host.dtype(), execution.pinned, MemoryUse::data);
  slot.copy_from(host);
  record_->entries_.push_back([make, slot](std::int64_t number) {
    const Tensor next = make(number);
    if (next.shape() != slot.shape() || next.dtype() != slot.dtype()) return false;
    slot.copy_from(next);
    return true;
  });
  const Tensor result = execution.empty(host.shape(), host.dtype(), MemoryUse::data);
  if (host.numel() > 0) execution.stream->copy(slot.raw(), result.raw(), host.bytes());
  return result;
}

std::int64_t StepNumber::once() const {
  FILIGREE_CHECK(record_ == nullptr, "the number of a step whose work is to be run again");
  return number_;
}

}  // namespace filigree
