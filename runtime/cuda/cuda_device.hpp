// NVIDIA GPUs: what there is, and how work and memory get there.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/core/execution.hpp"

namespace filigree {

struct CudaDeviceInfo {
  std::string name;
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  std::int64_t memory_bytes = 0;
  std::int64_t shared_bytes_per_block = 0;  // the most that a kernel can ask for
};

// The GPUs that this process sees. Throws UserError that says why there are none: no driver, a
// driver older than this build's runtime, or no device.
std::vector<CudaDeviceInfo> cuda_devices();

// A stream with an allocator of its own on GPU `index`. Throws UserError when there is no such GPU.
// One thread may use contexts of several GPUs: everything here, and every launch, first makes the
// GPU it works on the current one.
ExecutionContext make_cuda_context(int index);

// A point in a stream's work that other streams can wait for.
class CudaEvent {
 public:
  explicit CudaEvent(const Stream& stream);  // of the stream's device, not yet recorded
  ~CudaEvent();
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;

  void record(const Stream& stream);      // of the same device
  void wait(const Stream& stream) const;  // what the stream gets from now on runs after the point

 private:
  void* event_ = nullptr;
};

}  // namespace filigree
