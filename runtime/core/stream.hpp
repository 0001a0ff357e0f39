// The order of work on an accelerator.
#pragma once

#include <cstdint>
#include <memory>

#include "runtime/core/device.hpp"
#include "runtime/core/tensor.hpp"

namespace filigree {

class Stream;

// Work that was captured from a stream, to be enqueued again as a whole.
class CapturedWork {
 public:
  virtual ~CapturedWork() = default;
  virtual void launch(Stream& stream) = 0;
};

// A queue of work that runs in the order in which it was enqueued, some time later. Nothing here
// waits for the work but `synchronize`. A failure of earlier work is reported by the next call.
class Stream {
 public:
  virtual ~Stream() = default;
  virtual Device device() const = 0;
  virtual void* native() const = 0;  // cudaStream_t
  // Enqueues a copy on the device, or between it and host memory, which must be pinned where it is
  // the source and stays as it is until the copy has run.
  virtual void copy(const void* from, void* to, std::int64_t bytes) = 0;
  // Enqueues a copy from host memory of any kind, which has been read on return.
  virtual void upload(const void* host, void* to, std::int64_t bytes) = 0;
  virtual void fill(void* to, std::uint8_t byte, std::int64_t bytes) = 0;
  virtual void synchronize() = 0;
  // From here to end_capture() work is noted, not run. Nothing may wait for it or read its results,
  // and memory that it uses must stay what it is as long as it may be launched; what is uploaded
  // has the bytes of now at every launch. end_capture() throws InternalError, and the capture is
  // over, where something was done that cannot be captured.
  virtual void begin_capture() = 0;
  virtual std::unique_ptr<CapturedWork> end_capture() = 0;
  virtual bool capturing() const = 0;
};

// Enqueues a copy of all elements; equal dtype and element count. A source in host memory has been
// read on return.
void copy(Stream& stream, const Tensor& from, const Tensor& to);
// A copy in host memory, complete on return.
Tensor to_host(Stream& stream, const Tensor& tensor);
// A copy in the allocator's memory, in the order of the stream's work.
Tensor to_device(Stream& stream, const Tensor& tensor, const std::shared_ptr<Allocator>& allocator,
                 MemoryUse use = MemoryUse::workspace);

}  // namespace filigree
