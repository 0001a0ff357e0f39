#include "runtime/cuda/cuda_device.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <exception>
#include <utility>

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

// Host memory that the GPU reads by itself while the host goes on.
class PinnedMemory final : public SystemMemory {
 public:
  Device device() const override { return {}; }
  void* take(std::int64_t bytes) override {
    void* block = nullptr;
    const cudaError_t result =
        cudaHostAlloc(&block, static_cast<std::size_t>(bytes), cudaHostAllocDefault);
    if (result == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      return nullptr;
    }
    check_cuda(result, "cudaHostAlloc");
    return block;
  }
  void give_back(void* block) noexcept override { cudaFreeHost(block); }
};

// A captured graph, with the pinned copies of what was uploaded into it.
class CudaGraph final : public CapturedWork {
 public:
  CudaGraph(cudaGraph_t graph, std::vector<Tensor> uploaded) : uploaded_(std::move(uploaded)) {
    const cudaError_t result = cudaGraphInstantiate(&graph_, graph, 0);
    cudaGraphDestroy(graph);
    check_cuda(result, "cudaGraphInstantiate");
  }
  ~CudaGraph() override { cudaGraphExecDestroy(graph_); }
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;

  void launch(Stream& stream) override {
    FILIGREE_CHECK_CUDA(cudaSetDevice(stream.device().index));
    FILIGREE_CHECK_CUDA(cudaGraphLaunch(graph_, native(stream)));
  }

 private:
  std::vector<Tensor> uploaded_;
  cudaGraphExec_t graph_ = nullptr;
};

// Not the default stream: that one waits for all others.
class CudaStream final : public Stream {
 public:
  CudaStream(int index, std::shared_ptr<Allocator> pinned, bool urgent = false)
      : index_(index), pinned_(std::move(pinned)) {
    make_current();
    int least = 0, greatest = 0;
    FILIGREE_CHECK_CUDA(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    FILIGREE_CHECK_CUDA(
        cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, urgent ? greatest : least));
  }
  // Copies that are still waiting read what would be handed out again.
  ~CudaStream() override {
    try {
      if (!staged_.empty()) synchronize();
    } catch (const std::exception&) {  // is for a call whose result somebody wants
    }
    cudaStreamDestroy(stream_);
  }
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;

  Device device() const override { return {DeviceKind::cuda, index_}; }
  void* native() const override { return stream_; }
  void copy(const void* from, void* to, std::int64_t bytes) override {
    make_current();
    FILIGREE_CHECK_CUDA(
        cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDefault, stream_));
  }
  // Whether CUDA has read pageable memory when a copy from it returns depends on its size; what has
  // been copied to pinned memory stays there until the stream was waited for.
  void upload(const void* host, void* to, std::int64_t bytes) override {
    constexpr std::int64_t kPiece = 4 << 20, kMostWaiting = 64 << 20;
    for (std::int64_t begin = 0; begin < bytes; begin += kPiece) {
      const std::int64_t size = std::min(kPiece, bytes - begin);
      if (!capturing_ && waiting_bytes_ + size > kMostWaiting) synchronize();
      staged_.push_back(Tensor::empty({size}, DType::u8, pinned_, MemoryUse::data));
      waiting_bytes_ += size;
      std::memcpy(staged_.back().raw(), static_cast<const std::byte*>(host) + begin,
                  static_cast<std::size_t>(size));
      copy(staged_.back().raw(), static_cast<std::byte*>(to) + begin, size);
    }
  }
  void fill(void* to, std::uint8_t byte, std::int64_t bytes) override {
    make_current();
    FILIGREE_CHECK_CUDA(cudaMemsetAsync(to, byte, static_cast<std::size_t>(bytes), stream_));
  }
  void synchronize() override {
    make_current();
    FILIGREE_CHECK_CUDA(cudaStreamSynchronize(stream_));
    staged_.clear();
    waiting_bytes_ = 0;
  }
  // Relaxed: what other threads do, and memory that is allocated meanwhile, are no part of it.
  void begin_capture() override {
    synchronize();
    FILIGREE_CHECK_CUDA(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed));
    capturing_ = true;
  }
  std::unique_ptr<CapturedWork> end_capture() override {
    make_current();
    capturing_ = false;
    waiting_bytes_ = 0;
    std::vector<Tensor> uploaded = std::exchange(staged_, {});
    cudaGraph_t graph = nullptr;
    FILIGREE_CHECK_CUDA(cudaStreamEndCapture(stream_, &graph));
    return std::make_unique<CudaGraph>(graph, std::move(uploaded));
  }
  bool capturing() const override { return capturing_; }

 private:
  void make_current() const { FILIGREE_CHECK_CUDA(cudaSetDevice(index_)); }

  int index_;
  std::shared_ptr<Allocator> pinned_;
  cudaStream_t stream_ = nullptr;
  bool capturing_ = false;
  std::vector<Tensor> staged_;  // since the stream was waited for, or in this capture
  std::int64_t waiting_bytes_ = 0;
};

std::shared_ptr<CachingAllocator> pinned_allocator() {
  return std::make_shared<CachingAllocator>(std::make_unique<PinnedMemory>());
}

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
  context.pinned = pinned_allocator();
  context.stream = std::make_shared<CudaStream>(index, context.pinned);
  const auto memory = std::make_shared<CachingAllocator>(std::make_unique<CudaMemory>(index));
  context.allocator = memory;
  context.step_allocator = memory->arena();
  return context;
}

std::shared_ptr<Stream> make_communication_stream(int index) {
  return std::make_shared<CudaStream>(index, pinned_allocator(), true);
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
