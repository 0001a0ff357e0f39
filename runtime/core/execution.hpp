// ExecutionContext: everything a function that does work needs to know about where and how to do
// it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/core/device.hpp"
#include "runtime/core/memory.hpp"
#include "runtime/core/stream.hpp"
#include "runtime/core/tensor.hpp"

namespace filigree {

// Work done by kernels. `flops` were executed; `dense_flops` is what the same call would cost with
// nothing skipped; `bytes` is the least traffic the call could cause.
struct Work {
  std::int64_t flops = 0;
  std::int64_t dense_flops = 0;
  std::int64_t bytes = 0;
  Work& operator+=(const Work& other) {
    flops += other.flops;
    dense_flops += other.dense_flops;
    bytes += other.bytes;
    return *this;
  }
};

// What a kernel works for. An op says so with `static constexpr WorkPart part`; without, it is
// `other`.
enum class WorkPart { other, attention, gate, teacher };
inline constexpr std::size_t kWorkParts = 4;

// Kernels of one part: their work, and the wall time that the caller waited for them.
struct PartUsage {
  Work work;
  double seconds = 0.0;
};

// By part, summed over every dispatched kernel since the caller last cleared it.
struct WorkLog {
  std::array<PartUsage, kWorkParts> parts;

  PartUsage& operator[](WorkPart part) { return parts[static_cast<std::size_t>(part)]; }
  const PartUsage& operator[](WorkPart part) const { return parts[static_cast<std::size_t>(part)]; }
  Work total() const {
    Work sum;
    for (const PartUsage& part : parts) sum += part.work;
    return sum;
  }
  WorkLog& operator+=(const WorkLog& other) {
    for (std::size_t i = 0; i < kWorkParts; ++i) {
      parts[i].work += other.parts[i].work;
      parts[i].seconds += other.parts[i].seconds;
    }
    return *this;
  }
};

// Work that follows from what is on an accelerator: operations per query-key pair, and where the
// number of pairs that were read, and of those that could have been, will be found.
struct UncountedWork {
  struct Item {
    WorkPart part = WorkPart::other;
    std::int64_t flops_per_pair = 0;
  };
  static constexpr std::int64_t kPerTensor = 256;  // one copy brings so many to the host
  std::vector<Item> items;
  std::vector<Tensor> pairs;  // i64 [kPerTensor, 2] each: item i has row i of all of them
};

// What a context had counted at some moment.
struct WorkMark {
  WorkLog work;
  std::size_t uncounted = 0;
};

struct ExecutionContext {
  Device device;
  std::shared_ptr<Allocator> allocator = host_allocator();
  // Of an accelerator; null on the CPU, whose kernels run at once and where host memory is all.
  std::shared_ptr<Stream> stream;
  std::shared_ptr<CachingAllocator> pinned;   // host memory that copies are enqueued from
  std::shared_ptr<Allocator> step_allocator;  // an arena of `allocator`, for work that is captured
  int num_threads = 1;                        // OpenMP threads this rank may use
  bool deterministic = true;  // kernels that cannot promise run-to-run identical bits reject
  // Op name -> implementation name, to force one (tests, train.kernels, bench kernels); "*"
  // forces all.
  std::map<std::string, std::string, std::less<>> forced_kernels;
  WorkLog work;
  UncountedWork uncounted;

  void reset_work() {
    work = {};
    uncounted = {};
  }
  WorkMark mark_work() const { return {work, uncounted.items.size()}; }
  // Forgets what was counted since, or is to be.
  void forget_work_since(const WorkMark& mark);
  // Where a kernel of `part` is to leave two numbers of pairs: i64 [2].
  Tensor count_later(WorkPart part, std::int64_t flops_per_pair);
  // Adds what has not been counted to `work`. On an accelerator it waits for the work that was
  // enqueued before.
  void settle_work();

  Tensor empty(const Shape& shape, DType dtype, MemoryUse use = MemoryUse::workspace) const {
    return Tensor::empty(shape, dtype, allocator, use);
  }
  Tensor zeros(const Shape& shape, DType dtype, MemoryUse use = MemoryUse::workspace) const;
  Tensor clone(const Tensor& source, MemoryUse use = MemoryUse::workspace) const;

  // Tensors of this context, in the order of its other work: on an accelerator they are enqueued.
  void zero(const Tensor& tensor) const;
  void copy(const Tensor& from, const Tensor& to) const;  // equal dtype and element count

  // Between host memory and this context's; a tensor that is where it should be is returned itself.
  // An upload has read its host tensor on return, and waits for nothing; a download waits for all
  // work enqueued before.
  Tensor upload(const Tensor& host, MemoryUse use = MemoryUse::workspace) const;
  Tensor download(const Tensor& tensor) const;
};

}  // namespace filigree
