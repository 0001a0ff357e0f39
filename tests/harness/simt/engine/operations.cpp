#include "tests/harness/simt/engine/operations.hpp"

#include <chrono>
#include <cstring>
#include <numeric>

namespace simt {

KernelOperation::KernelOperation(const detail::Kernel& kernel, const LaunchShape& shape)
    : kernel_(kernel), shape_(shape) {}

std::string KernelOperation::name() const { return "kernel " + function_name(kernel_.function); }

Progress KernelOperation::advance(Machine& machine, int device, const Place& place) {
  machine.begin(device, place);
  const dim3 grid = shape_.grid;
  std::vector<std::uint32_t> order(static_cast<std::size_t>(grid.x) * grid.y * grid.z);
  std::iota(order.begin(), order.end(), 0u);
  for (std::size_t i = order.size(); i > 1; --i) {
    std::swap(order[i - 1], order[machine.random().below(static_cast<std::uint32_t>(i))]);
  }
  for (const std::uint32_t linear : order) {
    const uint3 position{linear % grid.x, linear / grid.x % grid.y, linear / (grid.x * grid.y)};
    machine.block().place(kernel_, shape_, position);
    machine.check().begin_block(machine.block());
    machine.block().run();
  }
  return Progress::done;
}

Progress RecordOperation::advance(Machine& machine, int, const Place&) {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  record_->milliseconds = std::chrono::duration<double, std::milli>(now).count();
  record_->done = true;
  machine.notify();
  return Progress::done;
}

void checked_copy(Machine& machine, void* to, const void* from, std::size_t bytes) {
  const auto in_device = [&](const void* pointer) {
    return machine.memory().holds(reinterpret_cast<std::uintptr_t>(pointer));
  };
  if (in_device(from)) machine.check().operation_access(from, bytes, Access::read);
  if (in_device(to)) machine.check().operation_access(to, bytes, Access::write);
  std::memmove(to, from, bytes);
}

std::shared_ptr<Operation> copy_operation(Machine& machine, void* to, const void* from,
                                          std::size_t bytes) {
  constexpr int kPoisonByte = 0xff;
  const bool from_host = !machine.memory().holds(reinterpret_cast<std::uintptr_t>(from));
  const bool to_host = !machine.memory().holds(reinterpret_cast<std::uintptr_t>(to));
  if (to_host && !from_host) std::memset(to, kPoisonByte, bytes);
  std::shared_ptr<std::vector<unsigned char>> staged;
  if (from_host && !machine.is_pinned(from)) {
    const auto* begin = static_cast<const unsigned char*>(from);
    staged = std::make_shared<std::vector<unsigned char>>(begin, begin + bytes);
  }
  return std::make_shared<Step>("cudaMemcpyAsync", [=](Machine& m, int) {
    checked_copy(m, to, staged ? staged->data() : from, bytes);
  });
}

std::shared_ptr<Operation> fill_operation(void* to, int value, std::size_t bytes) {
  return std::make_shared<Step>("cudaMemsetAsync", [=](Machine& m, int) {
    m.check().operation_access(to, bytes, Access::write);
    std::memset(to, value, bytes);
  });
}

}  // namespace simt
