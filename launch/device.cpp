#include "launch/device.hpp"

#include <iostream>

#include "launch/process.hpp"
#include "parallel/nccl_communicator.hpp"
#include "runtime/core/error.hpp"
#include "runtime/cuda/cuda_device.hpp"
#include "runtime/training/agreement.hpp"

namespace filigree {
namespace {

// The GPUs that this process sees, or why there are none.
struct Gpus {
  std::vector<CudaDeviceInfo> devices;
  std::string problem;
};

Gpus find_gpus() {
  Gpus gpus;
  try {
    gpus.devices = cuda_devices();
  } catch (const UserError& error) {
    gpus.problem = error.what();
  }
  return gpus;
}

void say_choice(const std::string& choice) {
  if (launcher_rank() == 0) std::cerr << "filigree: device auto: " << choice << std::endl;
}

std::string name_of(const Gpus& gpus, int index) {
  return str("GPU ", index, ", ", gpus.devices[static_cast<std::size_t>(index)].name);
}

}  // namespace

OptionSpec device_option() {
  return {.description = "where to compute; auto: a GPU for every rank if there are any",
          .allowed = {"cpu", "cuda", "auto"}};
}

Device choose_device(const std::string& wanted, const RankEnvironment& environment) {
  if (wanted == "cpu") return {};
  Communicator& world = *environment.world;
  const Gpus gpus = find_gpus();
  if (wanted == "auto" && !any_rank(world, gpus.problem.empty())) {
    say_choice(str("the CPU; ", gpus.problem));
    return {};
  }
  int index = 0;
  agree(world, [&] {
    if (!gpus.problem.empty()) throw UserError(str("device ", wanted, ": ", gpus.problem));
    index = gpu_of_local_rank(environment.mpi.local_rank(), environment.mpi.local_size());
  });
  if (wanted == "auto") say_choice(name_of(gpus, index));
  return {DeviceKind::cuda, index};
}

Device choose_device(const std::string& wanted) {
  if (wanted == "cpu") return {};
  const Gpus gpus = find_gpus();
  if (wanted == "auto") {
    say_choice(gpus.problem.empty() ? name_of(gpus, 0) : str("the CPU; ", gpus.problem));
    return gpus.problem.empty() ? Device{DeviceKind::cuda, 0} : Device{};
  }
  if (!gpus.problem.empty()) throw UserError(str("device cuda: ", gpus.problem));
  return {DeviceKind::cuda, 0};
}

ExecutionContext make_context(Device device, int threads) {
  ExecutionContext context;
  if (device.kind == DeviceKind::cuda)
    context = make_cuda_context(device.index);
  else
    context.allocator = std::make_shared<CachingAllocator>(device);
  context.num_threads = threads;
  return context;
}

std::shared_ptr<Communicator> communicator_for(const ExecutionContext& context,
                                               std::shared_ptr<Communicator> hosts,
                                               std::chrono::milliseconds timeout) {
  if (context.device.kind == DeviceKind::cpu) return hosts;
  std::shared_ptr<Communicator> result;
  agree(*hosts, [&] { result = nccl_communicator(hosts, context, timeout); });
  return result;
}

}  // namespace filigree
