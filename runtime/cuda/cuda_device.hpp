// NVIDIA GPUs: what there is, and how work and memory get there.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/core/error.hpp"
#include "runtime/core/execution.hpp"
#include "runtime/core/library_version.hpp"

namespace filigree {

struct CudaDeviceInfo {
  std::string name;
  std::string bus;           // "0000:3b:00": where it is, on its host
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  std::int64_t memory_bytes = 0;
  std::int64_t shared_bytes_per_block = 0;  // the most that a kernel can ask for
};

// Whether this program links the CUDA backend. Without it cuda_devices and make_cuda_context throw
// UserError that says so, and there are no libraries, architectures and versions.
bool built_with_cuda();

// What the backend was compiled for, "80", "90a": itself, and for later ones where there is no
// letter.
std::vector<std::string> cuda_architectures();
// Versions of CUDA as numbers there are, 12040 is 12.4: what the driver supports (0: there is no
// driver), and what this program was built with.
int cuda_driver_version();
int cuda_runtime_version();
inline std::string cuda_version_text(int version) {
  return str(version / 1000, ".", version % 1000 / 10);
}
std::vector<LibraryVersion> cuda_libraries();

// Why there is no GPU, and what to do about it: CUDA's answer to the question for them, and the two
// versions.
std::string why_no_gpu(const std::string& answer, int driver, int needed);

// The GPUs that this process sees. Throws UserError that says why there are none: no driver, a
// driver older than this build's runtime, or no device.
std::vector<CudaDeviceInfo> cuda_devices();

// Why the backend has no code for this GPU; empty where it has.
std::string why_unsupported(const CudaDeviceInfo& device);

// A stream with an allocator of its own on GPU `index`. Throws UserError when there is no such GPU,
// or no code for it.
// One thread may use contexts of several GPUs: everything here, and every launch, first makes the
// GPU it works on the current one.
ExecutionContext make_cuda_context(int index);

// A further stream on GPU `index`, whose kernels start before those that wait in the streams of
// contexts: what communicates is on the way while other work goes on.
std::shared_ptr<Stream> make_communication_stream(int index);

// A point in a stream's work that other streams can wait for.
class CudaEvent {
 public:
  explicit CudaEvent(const Stream& stream);  // of the stream's device, not yet recorded
  ~CudaEvent();
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;

  void record(const Stream& stream);      // of the same device
  void wait(const Stream& stream) const;  // what the stream gets from now on runs after the point
  // Whether the work before the point is over; waits for nothing. Any thread may ask.
  bool reached() const;

 private:
  void* event_ = nullptr;
};

}  // namespace filigree
