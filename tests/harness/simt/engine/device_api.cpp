// Errors, devices, kernels' attributes and launches.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include <simt/launch.hpp>

#include "tests/harness/simt/engine/api.hpp"
#include "tests/harness/simt/engine/operations.hpp"

namespace simt {
namespace {

thread_local cudaError_t last_error = cudaSuccess;

constexpr std::size_t kDefaultSharedBytes = 48 * 1024;
constexpr std::size_t kSharedBytesOfProcessor = 228 * 1024;
constexpr std::size_t kReservedSharedBytes = 1024;
constexpr int kThreadsOfProcessor = 2048;
constexpr int kBlocksOfProcessor = 32;

struct ErrorText {
  cudaError_t error;
  const char* name;
  const char* text;
};
#define SIMT_ERROR(name, text) \
  { name, #name, text }
constexpr ErrorText kErrors[] = {
    SIMT_ERROR(cudaSuccess, "no error"),
    SIMT_ERROR(cudaErrorInvalidValue, "invalid argument"),
    SIMT_ERROR(cudaErrorMemoryAllocation, "out of memory"),
    SIMT_ERROR(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    SIMT_ERROR(cudaErrorInvalidDevicePointer, "invalid device pointer"),
    SIMT_ERROR(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy"),
    SIMT_ERROR(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    SIMT_ERROR(cudaErrorInvalidDevice, "invalid device ordinal"),
    SIMT_ERROR(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    SIMT_ERROR(cudaErrorNotReady, "device not ready"),
    SIMT_ERROR(cudaErrorLaunchOutOfResources, "too many resources requested for launch"),
    SIMT_ERROR(cudaErrorLaunchFailure, "unspecified launch failure"),
    SIMT_ERROR(cudaErrorNotSupported, "operation not supported"),
    SIMT_ERROR(cudaErrorStreamCaptureUnsupported,
               "operation not permitted when stream is capturing"),
    SIMT_ERROR(cudaErrorStreamCaptureInvalidated,
               "operation failed due to a previous error during capture"),
    SIMT_ERROR(cudaErrorStreamCaptureMerge,
               "operation would result in a merge of separate capture sequences"),
    SIMT_ERROR(cudaErrorStreamCaptureUnmatched,
               "capture was not ended in the same stream as it began"),
    SIMT_ERROR(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work"),
    SIMT_ERROR(cudaErrorStreamCaptureIsolation,
               "dependency created on uncaptured work in another stream"),
    SIMT_ERROR(cudaErrorStreamCaptureImplicit,
               "operation would make the legacy stream depend on a capturing blocking stream"),
    SIMT_ERROR(cudaErrorCapturedEvent,
               "operation not permitted on an event last recorded in a capturing stream"),
};
#undef SIMT_ERROR

int shared_limit(Machine& machine, const void* kernel) {
  const auto found = machine.shared_limits().find(kernel);
  return found == machine.shared_limits().end() ? static_cast<int>(kDefaultSharedBytes)
                                                : found->second;
}

std::string refusal(Machine& machine, const detail::Kernel& kernel, const LaunchShape& shape) {
  const dim3 g = shape.grid, b = shape.block;
  const auto list = [](dim3 v) {
    return '(' + std::to_string(v.x) + ',' + std::to_string(v.y) + ',' + std::to_string(v.z) + ')';
  };
  if (g.x == 0 || g.y == 0 || g.z == 0 || g.x > 0x7fffffffu || g.y > 65535 || g.z > 65535) {
    return "grid " + list(g) + "; allowed are 1 to 2147483647, 65535 and 65535";
  }
  if (b.x == 0 || b.y == 0 || b.z == 0 || b.z > 64 ||
      static_cast<std::uint64_t>(b.x) * b.y * b.z > kMaxThreads) {
    return "block " + list(b) + "; allowed are 1 to 1024 threads and 64 in z";
  }
  const auto limit = static_cast<std::size_t>(shared_limit(machine, kernel.function));
  if (shape.shared_bytes > limit) {
    return std::to_string(shape.shared_bytes) + " bytes of dynamic shared memory; allowed are " +
           std::to_string(limit) + ", and more only after cudaFuncSetAttribute";
  }
  return {};
}

}  // namespace

cudaError_t result(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

bool sees_every_access() { return kSeesEveryAccess; }

namespace detail {

void enqueue_kernel(const Kernel& kernel, dim3 grid, dim3 block, std::size_t shared_bytes,
                    cudaStream_t stream) {
  const LaunchShape shape{grid, block, shared_bytes};
  auto operation = std::make_shared<KernelOperation>(kernel, shape);  // owns the arguments
  Call call;
  if (!call.usable()) {
    result(cudaErrorLaunchFailure);
    return;
  }
  const std::string name = function_name(kernel.function);
  const std::string why = refusal(call.machine, kernel, shape);
  if (!why.empty()) throw Fault("launch of kernel " + name + ": " + why);
  CUstream_st& target = call.machine.stream(stream, ("launch of kernel " + name).c_str());
  if (target.device != call.device) {
    throw Fault("launch of kernel " + name + ": the stream belongs to device " +
                std::to_string(target.device) + ", current is device " +
                std::to_string(call.device));
  }
  call.machine.enqueue(target, std::move(operation));
}

cudaError_t set_shared_limit(const void* kernel, cudaFuncAttribute attribute, int value) {
  Call call;
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || value > static_cast<int>(MemoryCheck::kMaxSharedBytes)) {
    return result(cudaErrorInvalidValue);
  }
  call.machine.shared_limits()[kernel] = value;
  return cudaSuccess;
}

// Limited by threads, blocks and dynamic shared memory; registers are unknown here.
cudaError_t occupancy(int* blocks, const void*, int threads, std::size_t shared_bytes) {
  if (threads < 1 || threads > kMaxThreads) return result(cudaErrorInvalidValue);
  const int by_threads = kThreadsOfProcessor / ((threads + 31) / 32 * 32);
  const int by_memory =
      static_cast<int>(kSharedBytesOfProcessor / (shared_bytes + kReservedSharedBytes));
  *blocks = std::min({kBlocksOfProcessor, by_threads, by_memory});
  return cudaSuccess;
}

}  // namespace detail
}  // namespace simt

using simt::Call;
using simt::result;

cudaError_t cudaGetLastError() { return std::exchange(simt::last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return simt::last_error; }

const char* cudaGetErrorName(cudaError_t error) {
  for (const auto& known : simt::kErrors) {
    if (known.error == error) return known.name;
  }
  return "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t error) {
  for (const auto& known : simt::kErrors) {
    if (known.error == error) return known.text;
  }
  return "unrecognized error code";
}

cudaError_t cudaGetDeviceCount(int* count) {
  Call call;
  *count = call.machine.options().devices;
  return *count > 0 ? cudaSuccess : result(cudaErrorNoDevice);
}

cudaError_t cudaGetDevice(int* device) {
  *device = simt::current_device;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  Call call;
  if (device < 0 || device >= call.machine.options().devices) return result(cudaErrorInvalidDevice);
  simt::current_device = device;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  Call call;
  const simt::Options& options = call.machine.options();
  if (device < 0 || device >= options.devices) return result(cudaErrorInvalidDevice);
  *properties = {};
  std::snprintf(properties->name, sizeof(properties->name), "SIMT emulator %d", device);
  properties->uuid.bytes[0] = static_cast<char>(device + 1);
  properties->totalGlobalMem = options.device_bytes;
  properties->sharedMemPerBlock = simt::kDefaultSharedBytes;
  properties->sharedMemPerBlockOptin = simt::MemoryCheck::kMaxSharedBytes;
  properties->sharedMemPerMultiprocessor = simt::kSharedBytesOfProcessor;
  properties->regsPerBlock = 65536;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = simt::kMaxThreads;
  properties->maxThreadsPerMultiProcessor = simt::kThreadsOfProcessor;
  properties->multiProcessorCount = options.multiprocessors;
  properties->major = 9;
  properties->l2CacheSize = 50 << 20;
  properties->memoryBusWidth = 5120;
  properties->pciBusID = device + 1;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp properties;
  const cudaError_t error = cudaGetDeviceProperties(&properties, device);
  if (error != cudaSuccess) return error;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = properties.maxThreadsPerBlock;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(properties.sharedMemPerBlock);
      break;
    case cudaDevAttrWarpSize:
      *value = properties.warpSize;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = properties.multiProcessorCount;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = properties.maxThreadsPerMultiProcessor;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = properties.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = properties.minor;
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(properties.sharedMemPerMultiprocessor);
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(properties.sharedMemPerBlockOptin);
      break;
    case cudaDevAttrMemoryPoolsSupported:
      *value = 1;
      break;
    default:
      return result(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  Call call;
  if (call.machine.capturing()) return result(cudaErrorStreamCaptureUnsupported);
  call.machine.drain(call.lock, call.device, [&] { return call.machine.idle(call.device); });
  if (!call.usable()) return result(cudaErrorLaunchFailure);
  call.machine.device_synchronised(call.device);
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) { return cudaRuntimeGetVersion(version); }
