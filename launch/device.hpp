// Where a command computes: --device, and train.device of a run.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "launch/commands/world.hpp"
#include "launch/options.hpp"
#include "runtime/core/execution.hpp"

namespace filigree {

// cpu, cuda or auto. The default is cpu: which device computes decides how results are rounded, so
// it follows from what was asked for and not from the machine.
OptionSpec device_option();

// What `wanted` means for this rank. cuda: the GPU of its place among the ranks of its host
// (gpu_of_local_rank); every rank needs one of its own. auto: the same where any rank sees a GPU,
// otherwise the CPU; which of them, and why, is one line on standard error. Throws an AgreedError
// that says what is in the way. Collective.
Device choose_device(const std::string& wanted, const RankEnvironment& environment);
// The same for a process on its own. Throws UserError.
Device choose_device(const std::string& wanted);

// A context there, with a caching allocator of its own. `threads` are for what runs on the CPU.
ExecutionContext make_context(Device device, int threads);

// Through which ranks exchange tensors of `context`: the communicator of hosts itself on the CPU,
// one that knows NCCL on GPUs. Throws an AgreedError where two ranks use one GPU. Collective.
std::shared_ptr<Communicator> communicator_for(const ExecutionContext& context,
                                               std::shared_ptr<Communicator> hosts,
                                               std::chrono::milliseconds timeout);

}  // namespace filigree
