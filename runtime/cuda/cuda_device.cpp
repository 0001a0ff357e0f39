#include "runtime/cuda/cuda_device.hpp"

#include <array>
#include <cstdio>

#include "runtime/cuda/cuda_check.hpp"

namespace filigree {
namespace {

cudaStream_t native(const Stream& stream) { return static_cast<cudaStream_t>(stream.native()); }

class CudaMemory final : public SystemMemory {
 public:
  explicit CudaMemory(int index) : index_(index) {}
  Device device() const override { return {DeviceKind::cuda, index_}; }
  void* take(std::int64_t bytes) override {
    FILIGREE_CHECK_CUDA(cudaSetDevice(index_));
    void* block = nullptr;
    const cudaError_t result = cudaMalloc(&block, static_cast<std::size_t>(bytes));
    if (result == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      return nullptr;
    }
    check_cuda(result, "cudaMalloc");
    return block;
  }
  // At exit the driver may be gone already, and its memory with it.
  void give_back(void* block) noexcept override { cudaFree(block); }

 private:
  int index_;
};

// Not the default stream: that one waits for all others.
class CudaStream final : public Stream {
 public:
  explicit CudaStream(int index, bool urgent = false) : index_(index) {
    make_current();
    int least = 0, greatest = 0;
    FILIGREE_CHECK_CUDA(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    FILIGREE_CHECK_CUDA(
        cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, urgent ? greatest : least));
  }
  ~CudaStream() override { cudaStreamDestroy(stream_); }
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;

  Device device() const override { return {DeviceKind::cuda, index_}; }
  void* native() const override { return stream_; }
  void copy(const void* from, void* to, std::int64_t bytes) override {
    make_current();
    FILIGREE_CHECK_CUDA(
        cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDefault, stream_));
  }
  void fill(void* to, std::uint8_t byte, std::int64_t bytes) override {
    make_current();
    FILIGREE_CHECK_CUDA(cudaMemsetAsync(to, byte, static_cast<std::size_t>(bytes), stream_));
  }
  void synchronize() override {
    make_current();
    FILIGREE_CHECK_CUDA(cudaStreamSynchronize(stream_));
  }

 private:
  void make_current() const { FILIGREE_CHECK_CUDA(cudaSetDevice(index_)); }

  int index_;
  cudaStream_t stream_ = nullptr;
};

std::string bus_text(const cudaDeviceProp& properties) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%04x:%02x:%02x", properties.pciDomainID,
                properties.pciBusID, properties.pciDeviceID);
  return text.data();
}

}  // namespace

bool built_with_cuda() { return true; }

std::vector<CudaDeviceInfo> cuda_devices() {
  int count = 0;
  const cudaError_t result = cudaGetDeviceCount(&count);
  if (result != cudaSuccess || count == 0) {
    cudaGetLastError();
    throw UserError(
        why_no_gpu(cudaGetErrorString(result), cuda_driver_version(), cuda_runtime_version()));
  }
  std::vector<CudaDeviceInfo> devices;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties;
    FILIGREE_CHECK_CUDA(cudaGetDeviceProperties(&properties, i));
    devices.push_back(
        {.name = properties.name,
         .bus = bus_text(properties),
         .major = properties.major,
         .minor = properties.minor,
         .multiprocessors = properties.multiProcessorCount,
         .memory_bytes = static_cast<std::int64_t>(properties.totalGlobalMem),
         .shared_bytes_per_block = static_cast<std::int64_t>(properties.sharedMemPerBlockOptin)});
  }
  return devices;
}

ExecutionContext make_cuda_context(int index) {
  const std::vector<CudaDeviceInfo> devices = cuda_devices();
  const auto count = static_cast<int>(devices.size());
  if (index < 0 || index >= count)
    throw UserError(str("GPU ", index, " does not exist: this process sees ", count,
                        "; CUDA_VISIBLE_DEVICES chooses which"));
  const CudaDeviceInfo& device = devices[static_cast<std::size_t>(index)];
  if (const std::string problem = why_unsupported(device); !problem.empty())
    throw UserError(str("GPU ", index, ", ", device.name, ": ", problem));
  ExecutionContext context;
  context.device = {DeviceKind::cuda, index};
  context.stream = std::make_shared<CudaStream>(index);
  context.allocator = std::make_shared<CachingAllocator>(std::make_unique<CudaMemory>(index));
  return context;
}

std::shared_ptr<Stream> make_communication_stream(int index) {
  return std::make_shared<CudaStream>(index, true);
}

CudaEvent::CudaEvent(const Stream& stream) {
  FILIGREE_CHECK_CUDA(cudaSetDevice(stream.device().index));
  cudaEvent_t event = nullptr;
  FILIGREE_CHECK_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  event_ = event;
}

CudaEvent::~CudaEvent() { cudaEventDestroy(static_cast<cudaEvent_t>(event_)); }

void CudaEvent::record(const Stream& stream) {
  FILIGREE_CHECK_CUDA(cudaSetDevice(stream.device().index));
  FILIGREE_CHECK_CUDA(cudaEventRecord(static_cast<cudaEvent_t>(event_), native(stream)));
}

void CudaEvent::wait(const Stream& stream) const {
  FILIGREE_CHECK_CUDA(cudaSetDevice(stream.device().index));
  FILIGREE_CHECK_CUDA(cudaStreamWaitEvent(native(stream), static_cast<cudaEvent_t>(event_), 0));
}

bool CudaEvent::reached() const {
  const cudaError_t result = cudaEventQuery(static_cast<cudaEvent_t>(event_));
  if (result == cudaErrorNotReady) {
    cudaGetLastError();
    return false;
  }
  check_cuda(result, "cudaEventQuery");
  return true;
}

}  // namespace filigree
