// The order of work on an accelerator.
#pragma once

#include <cstdint>

#include "runtime/core/device.hpp"
#include "runtime/core/tensor.hpp"

namespace filigree {

// A queue of work that runs in the order in which it was enqueued, some time later. Nothing here
// waits for the work but `synchronize`. A failure of earlier work is reported by the next call.
class Stream {
 public:
  virtual ~Stream() = default;
  virtual Device device() const = 0;
  virtual void* native() const = 0;  // cudaStream_t
  // Enqueues a copy between host and device, or on the device. Pinned host memory must stay as it
  // is until the copy has run; other host memory has been read on return, and is written by then.
  virtual void copy(const void* from, void* to, std::int64_t bytes) = 0;
  virtual void fill(void* to, std::uint8_t byte, std::int64_t bytes) = 0;
  virtual void synchronize() = 0;
};

// Enqueues a copy of all elements; equal dtype and element count.
void copy(Stream& stream, const Tensor& from, const Tensor& to);
// A copy in host memory, complete on return.
Tensor to_host(Stream& stream, const Tensor& tensor);
// A copy in the allocator's memory, complete on return.
Tensor to_device(Stream& stream, const Tensor& tensor, const std::shared_ptr<Allocator>& allocator,
                 MemoryUse use = MemoryUse::workspace);

}  // namespace filigree
