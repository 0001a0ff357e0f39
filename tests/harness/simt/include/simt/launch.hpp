// Launching kernels in the emulator, its settings, and what it throws.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>

#include <simt/vector_types.hpp>

typedef struct CUstream_st* cudaStream_t;

namespace simt {

// Something that a GPU would answer with a wrong result, a hang or a sticky error. The message
// names the kernel, the block, the threads, what happened and where. Thrown by the call that
// synchronises, or by the next call on that device.
class Fault : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Options {
  std::uint64_t seed = 0;                   // order of streams, blocks and threads
  int devices = 1;                          // what cudaGetDeviceCount says
  std::uint64_t device_bytes = 8ull << 30;  // memory of each device
  int multiprocessors = 4;                  // of each device: few, so that grid-stride loops loop
  double peer_timeout_seconds = 20;         // how long a collective waits for the other ranks
  bool check_memory = true;                 // races, bounds and uninitialised reads
  // NCCL tells the others of a rank that aborted: between hosts it does, within one they wait.
  bool aborts_are_noticed = false;
};

// Forgets every stream, event, allocation and pending operation of all devices and starts anew.
// No other thread may be inside a CUDA or NCCL call.
void reset(const Options& options = {});
const Options& options();

// Whether every load and store of device code is checked for races and uninitialised shared memory:
// not under AddressSanitizer, which takes the place of that instrumentation.
bool sees_every_access();

// How often the host has waited for a device since reset().
std::uint64_t host_waits();

namespace detail {

struct Kernel {
  void (*run)(const void* arguments);  // calls the kernel for the current CUDA thread
  void (*destroy)(void* arguments);
  void* arguments;  // tuple of the kernel's parameters, on the heap
  std::size_t argument_bytes;
  const void* function;  // for its name
};

void enqueue_kernel(const Kernel& kernel, dim3 grid, dim3 block, std::size_t shared_bytes,
                    cudaStream_t stream);

template <typename... Parameters>
struct Parcel {
  void (*function)(Parameters...);
  std::tuple<Parameters...> values;
};

template <typename... Parameters>
void run_parcel(const void* arguments) {
  const auto& parcel = *static_cast<const Parcel<Parameters...>*>(arguments);
  std::apply([&](const auto&... values) { parcel.function(values...); }, parcel.values);
}

}  // namespace detail

// Enqueues `kernel` on `stream`; the arguments are copied now, as CUDA does. Throws Fault where
// CUDA would refuse the launch configuration.
template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes,
            cudaStream_t stream, Arguments&&... arguments) {
  using Parcel = detail::Parcel<Parameters...>;
  auto* parcel =
      new Parcel{kernel, std::tuple<Parameters...>(std::forward<Arguments>(arguments)...)};
  detail::enqueue_kernel(
      {&detail::run_parcel<Parameters...>, [](void* p) { delete static_cast<Parcel*>(p); }, parcel,
       sizeof(Parcel), reinterpret_cast<const void*>(kernel)},
      grid, block, shared_bytes, stream);
}

// The dynamic shared memory of the running block, aligned to 1024 bytes; only in device code.
unsigned char* shared_memory();

// Size of that memory in bytes, as given at the launch.
std::size_t shared_memory_bytes();

}  // namespace simt
