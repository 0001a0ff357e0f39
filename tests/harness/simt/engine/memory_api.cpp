// Allocation, copies and fills.
#include <cstring>
#include <new>

#include "tests/harness/simt/engine/api.hpp"
#include "tests/harness/simt/engine/operations.hpp"

namespace simt {
namespace {

constexpr std::size_t kPinnedAlignment = 4096;

bool in_device(Machine& machine, const void* pointer) {
  return machine.memory().holds(reinterpret_cast<std::uintptr_t>(pointer));
}

bool fits(Call& call, std::size_t bytes) {
  return bytes <= call.machine.options().device_bytes &&
         call.machine.memory().bytes_in_use(call.device) + bytes <=
             call.machine.options().device_bytes;
}

// A graph would read or write pageable memory at every launch, long after the call.
bool is_capturable(const CUstream_st& stream, Machine& machine, const void* to, const void* from) {
  if (stream.capture == nullptr) return true;
  const auto stays = [&](const void* pointer) {
    return in_device(machine, pointer) || machine.is_pinned(pointer);
  };
  if (stays(to) && stays(from)) return true;
  stream.capture->invalid = true;
  return false;
}

// Whether `kind` says where the two pointers really are.
bool direction_is_right(Machine& machine, const void* to, const void* from, cudaMemcpyKind kind) {
  if (kind == cudaMemcpyDefault) return true;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  return in_device(machine, to) == to_device && in_device(machine, from) == from_device;
}

}  // namespace
}  // namespace simt

using simt::Allocation;
using simt::Call;
using simt::result;

cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
  Call call;
  if (!call.usable()) return result(cudaErrorLaunchFailure);
  if (call.machine.capturing()) return result(cudaErrorStreamCaptureUnsupported);
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  Allocation* allocation =
      simt::fits(call, bytes) ? call.machine.memory().allocate(bytes, call.device) : nullptr;
  if (allocation == nullptr) return result(cudaErrorMemoryAllocation);
  call.machine.memory().make_live(*allocation);
  *pointer = reinterpret_cast<void*>(allocation->begin);
  return cudaSuccess;
}

// Never throws, since destructors call it: what is wrong with the work before it shows at the next
// call.
cudaError_t cudaFree(void* pointer) {
  if (pointer == nullptr) return cudaSuccess;
  Call call;
  Allocation* allocation = call.machine.memory().starting_at(pointer);
  if (allocation == nullptr || allocation->life == simt::Life::freed) {
    return result(cudaErrorInvalidValue);
  }
  if (call.machine.capturing()) return result(cudaErrorStreamCaptureUnsupported);
  const int device = allocation->device;
  try {
    call.machine.drain(call.lock, device, [&] { return call.machine.idle(device); });
    call.machine.device_synchronised(device);
  } catch (const simt::Fault& fault) {
    call.machine.device(device).fault = fault.what();
  }
  call.machine.memory().free(*allocation);
  return cudaSuccess;
}

cudaError_t cudaMallocAsync(void** pointer, std::size_t bytes, cudaStream_t stream) {
  Call call;
  if (!call.usable()) return result(cudaErrorLaunchFailure);
  CUstream_st& target = call.machine.stream(stream, "cudaMallocAsync");
  if (target.capture != nullptr) return result(cudaErrorStreamCaptureUnsupported);
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  Allocation* allocation =
      simt::fits(call, bytes) ? call.machine.memory().allocate(bytes, call.device) : nullptr;
  if (allocation == nullptr) return result(cudaErrorMemoryAllocation);
  *pointer = reinterpret_cast<void*>(allocation->begin);
  call.machine.enqueue(
      target, std::make_shared<simt::Step>("cudaMallocAsync", [allocation](simt::Machine& m, int) {
        m.memory().make_live(*allocation);
      }));
  return cudaSuccess;
}

cudaError_t cudaFreeAsync(void* pointer, cudaStream_t stream) {
  if (pointer == nullptr) return cudaSuccess;
  Call call;
  CUstream_st& target = call.machine.stream(stream, "cudaFreeAsync");
  Allocation* allocation = call.machine.memory().starting_at(pointer);
  if (allocation == nullptr || allocation->life == simt::Life::freed) {
    return result(cudaErrorInvalidValue);
  }
  if (target.capture != nullptr) return result(cudaErrorStreamCaptureUnsupported);
  call.machine.enqueue(
      target, std::make_shared<simt::Step>("cudaFreeAsync", [allocation](simt::Machine& m, int) {
        // Checked like a write: whoever still uses the memory on another stream races with this.
        m.check().operation_access(reinterpret_cast<void*>(allocation->begin), allocation->bytes,
                                   simt::Access::write);
        m.memory().free(*allocation);
      }));
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** pointer, std::size_t bytes, unsigned) {
  Call call;
  if (call.machine.capturing()) return result(cudaErrorStreamCaptureUnsupported);
  *pointer = bytes == 0
                 ? nullptr
                 : ::operator new(bytes, std::align_val_t(simt::kPinnedAlignment), std::nothrow);
  if (bytes != 0 && *pointer == nullptr) return result(cudaErrorMemoryAllocation);
  if (bytes != 0) call.machine.pinned()[reinterpret_cast<std::uintptr_t>(*pointer)] = bytes;
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void** pointer, std::size_t bytes) {
  return cudaHostAlloc(pointer, bytes, cudaHostAllocDefault);
}

cudaError_t cudaFreeHost(void* pointer) {
  if (pointer == nullptr) return cudaSuccess;
  Call call;
  if (call.machine.pinned().erase(reinterpret_cast<std::uintptr_t>(pointer)) == 0) {
    return result(cudaErrorInvalidValue);
  }
  ::operator delete(pointer, std::align_val_t(simt::kPinnedAlignment));
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  Call call;
  if (!call.usable()) return result(cudaErrorLaunchFailure);
  CUstream_st& target = call.machine.stream(stream, "cudaMemcpyAsync");
  if (!simt::direction_is_right(call.machine, to, from, kind)) {
    return result(cudaErrorInvalidMemcpyDirection);
  }
  if (bytes == 0) return cudaSuccess;
  if (!simt::is_capturable(target, call.machine, to, from)) {
    return result(cudaErrorStreamCaptureUnsupported);
  }
  call.machine.enqueue(target, simt::copy_operation(call.machine, to, from, bytes));
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  Call call;
  if (!call.usable()) return result(cudaErrorLaunchFailure);
  if (call.machine.capturing()) return result(cudaErrorStreamCaptureImplicit);
  if (!simt::direction_is_right(call.machine, to, from, kind)) {
    return result(cudaErrorInvalidMemcpyDirection);
  }
  call.machine.drain(call.lock, call.device, [&] {
    for (const auto& stream : call.machine.streams()) {
      if (stream->device == call.device && stream->blocking && !stream->queue.empty()) return false;
    }
    return true;
  });
  if (!call.usable()) return result(cudaErrorLaunchFailure);
  for (const auto& stream : call.machine.streams()) {
    if (stream->device == call.device && stream->blocking) {
      call.machine.host_knows(call.device, stream->known);
    }
  }
  const auto copy = simt::copy_operation(call.machine, to, from, bytes);
  call.machine.run_alone(call.device, *copy);
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  Call call;
  if (!call.usable()) return result(cudaErrorLaunchFailure);
  CUstream_st& target = call.machine.stream(stream, "cudaMemsetAsync");
  if (!simt::in_device(call.machine, to)) return result(cudaErrorInvalidValue);
  if (bytes == 0) return cudaSuccess;
  call.machine.enqueue(target, simt::fill_operation(to, value, bytes));
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  Call call;
  *total = call.machine.options().device_bytes;
  *free = *total - call.machine.memory().bytes_in_use(call.device);
  return cudaSuccess;
}
