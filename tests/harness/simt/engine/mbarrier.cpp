#include "tests/harness/simt/engine/mbarrier.hpp"

#include <utility>

#include <simt/hopper.hpp>

#include "tests/harness/simt/engine/machine.hpp"

namespace simt {
namespace {

constexpr std::uint32_t kMaxCount = (1u << 20) - 1;

std::string place_of(std::uint32_t address) {
  return "the mbarrier at byte " + std::to_string(address) + " of shared memory";
}

void end_phase_if_complete(Block& block, std::uint32_t address, Mbarrier& barrier) {
  if (barrier.missing > 0) return;
  if (barrier.bytes < 0)
    block.fail(std::to_string(-barrier.bytes) + " bytes more than announced have landed at " +
               place_of(address));
  if (barrier.bytes > 0) return;
  ++barrier.phase;
  barrier.missing = barrier.arrivals;
  barrier.ended = barrier.gathered;
  barrier.unseen.insert(barrier.unseen.end(), barrier.landed.begin(), barrier.landed.end());
  barrier.landed.clear();
  for (int i = 0; i < block.threads(); ++i) {
    const Thread& thread = block.thread(i);
    if (thread.wait == Wait::mbarrier && thread.barrier == address) block.wake(i);
  }
}

void arrive(const char* instruction, void* pointer, std::uint32_t bytes) {
  Block& block = this_block(instruction);
  Mbarrier& barrier = mbarrier_at(block, pointer, instruction);
  if (bytes > kMaxCount)
    block.fail(std::string(instruction) + " announces " + std::to_string(bytes) +
               " bytes; a phase takes " + std::to_string(kMaxCount));
  block.order().release(running_thread->index, barrier.gathered);
  barrier.bytes += bytes;
  --barrier.missing;
  end_phase_if_complete(block, shared_address(pointer), barrier);
  block.maybe_yield();
}

}  // namespace

std::uint32_t shared_address(const void* pointer) {
  Block& block = this_block("shared_address");
  MemoryCheck& check = Machine::instance().check();
  const auto offset = reinterpret_cast<std::uintptr_t>(pointer) -
                      reinterpret_cast<std::uintptr_t>(check.shared_memory());
  if (offset > MemoryCheck::kMaxSharedBytes)
    block.fail("takes " + check.describe(pointer) + " for dynamic shared memory");
  return static_cast<std::uint32_t>(offset);
}

Mbarrier& mbarrier_at(Block& block, const void* pointer, const char* instruction) {
  const std::uint32_t address = shared_address(pointer);
  const auto found = block.async().mbarriers.find(address);
  if (found == block.async().mbarriers.end())
    block.fail(std::string(instruction) + " on byte " + std::to_string(address) +
               " of shared memory, which mbarrier.init has not made a barrier");
  Machine::instance().check().access(pointer, 8, Access::atomic, nullptr);
  return found->second;
}

void mbarrier_landed(Block& block, std::uint32_t address, SharedRange range) {
  Mbarrier& barrier = block.async().mbarriers.at(address);
  block.order().release(running_thread->index, barrier.gathered);
  barrier.bytes -= static_cast<std::int64_t>(range.bytes);
  barrier.landed.push_back(range);
  end_phase_if_complete(block, address, barrier);
}

void mbarrier_init(void* pointer, std::uint32_t arrivals) {
  Block& block = this_block("mbarrier.init");
  const std::uint32_t address = shared_address(pointer);
  if (address % 8 != 0 || arrivals < 1 || arrivals > kMaxCount)
    block.fail("mbarrier.init at byte " + std::to_string(address) + " of shared memory for " +
               std::to_string(arrivals) + " arrivals; it takes 8 aligned bytes and 1 to " +
               std::to_string(kMaxCount));
  Machine::instance().check().access(pointer, 8, Access::write, nullptr);
  Mbarrier barrier;
  barrier.arrivals = barrier.missing = arrivals;
  barrier.maker = running_thread->index;
  if (!block.async().mbarriers.emplace(address, std::move(barrier)).second)
    block.fail("mbarrier.init on " + place_of(address) + ", which is one already");
}

void fence_mbarrier_init() {
  Block& block = this_block("fence.mbarrier_init");
  for (auto& [address, barrier] : block.async().mbarriers)
    if (barrier.maker == running_thread->index) barrier.fenced = true;
}

void mbarrier_arrive(void* barrier) { arrive("mbarrier.arrive", barrier, 0); }

void mbarrier_arrive_expect(void* barrier, std::uint32_t bytes) {
  arrive("mbarrier.arrive.expect_tx", barrier, bytes);
}

void mbarrier_wait(void* pointer, std::uint32_t parity) {
  Block& block = this_block("mbarrier.try_wait");
  Mbarrier& barrier = mbarrier_at(block, pointer, "mbarrier.try_wait");
  if (parity > 1)
    block.fail("mbarrier.try_wait for parity " + std::to_string(parity) + "; it is 0 or 1");
  while (barrier.phase % 2 == parity) {
    running_thread->barrier = shared_address(pointer);
    block.wait_for(Wait::mbarrier, parity == 0 ? "mbarrier.try_wait for parity 0"
                                               : "mbarrier.try_wait for parity 1");
  }
  block.order().acquire(running_thread->index, barrier.ended);
  MemoryCheck& check = Machine::instance().check();
  for (const SharedRange& range : std::exchange(barrier.unseen, {}))
    check.reveal(range.begin, range.bytes);
  block.maybe_yield();
}

void fence_proxy_async() {
  Block& block = this_block("fence.proxy.async");
  running_thread->proxy_fence = block.tick();
}

}  // namespace simt
