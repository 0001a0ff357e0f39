// Barriers of some of a block's threads, and the registers of its warpgroups.
#include <simt/hopper.hpp>

#include "tests/harness/simt/engine/machine.hpp"

namespace simt {
namespace {

constexpr std::uint32_t kWarp = 0xffffffffu;

// Counts the running thread; true for the last one, which lets the others go on.
bool meet(const char* instruction, int id, int threads) {
  Block& block = this_block(instruction);
  if (id < 1 || id > 15 || threads < 32 || threads > block.threads() || threads % 32 != 0)
    block.fail(std::string(instruction) + " on barrier " + std::to_string(id) + " with " +
               std::to_string(threads) + " threads; ids are 1 to 15, threads whole warps, up to " +
               std::to_string(block.threads()));
  NamedBarrier& barrier = block.async().named[static_cast<std::size_t>(id)];
  if (barrier.arrived > 0 && barrier.expected != threads)
    block.fail(std::string(instruction) + " on barrier " + std::to_string(id) + " with " +
               std::to_string(threads) + " threads, where others came with " +
               std::to_string(barrier.expected));
  barrier.expected = threads;
  block.order().release(running_thread->index, barrier.gathered);
  if (++barrier.arrived < threads) return false;
  barrier.arrived = 0;
  ++barrier.generation;
  barrier.ended = barrier.gathered;
  for (int i = 0; i < block.threads(); ++i) {
    const Thread& thread = block.thread(i);
    if (thread.wait == Wait::named_barrier && thread.barrier == static_cast<std::uint32_t>(id))
      block.wake(i);
  }
  return true;
}

struct RegisterRequest {
  int count;
  bool increase;
};

void complete_registers(void* const requests[32], std::uint32_t) {
  Block& block = *running_block;
  const auto& first = *static_cast<const RegisterRequest*>(requests[0]);
  WarpProducts& warp = block.async().warps[static_cast<std::size_t>(running_thread->warp())];
  if (first.count < 24 || first.count > 256 || first.count % 8 != 0)
    block.fail("setmaxnreg of " + std::to_string(first.count) +
               " registers; allowed are 24 to 256 in steps of 8");
  if (warp.registers != 0 && first.increase != (first.count >= warp.registers))
    block.fail("setmaxnreg from " + std::to_string(warp.registers) + " to " +
               std::to_string(first.count) + (first.increase ? ", called .inc" : ", called .dec"));
  warp.registers = first.count;
}

void set_registers(const char* instruction, int count, bool increase) {
  Block& block = this_block(instruction);
  RegisterRequest request{count, increase};
  block.warp_collective(instruction, kWarp, &request, complete_registers);
}

}  // namespace

void named_barrier_arrive(int id, int threads) {
  meet("bar.arrive", id, threads);
  this_block("bar.arrive").maybe_yield();
}

void named_barrier_sync(int id, int threads) {
  if (!meet("bar.sync", id, threads)) {
    running_thread->barrier = static_cast<std::uint32_t>(id);
    running_block->wait_for(Wait::named_barrier, "bar.sync of a named barrier");
  }
  Block& block = *running_block;
  block.order().acquire(running_thread->index,
                        block.async().named[static_cast<std::size_t>(id)].ended);
  block.maybe_yield();
}

void decrease_registers(int count) { set_registers("setmaxnreg.dec", count, false); }
void increase_registers(int count) { set_registers("setmaxnreg.inc", count, true); }

}  // namespace simt
