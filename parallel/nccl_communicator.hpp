// Communicator over NCCL, for ranks that have a GPU each.
#pragma once

#include <chrono>
#include <memory>

#include "parallel/communicator.hpp"
#include "runtime/core/execution.hpp"

namespace filigree {

// Collective over `host`, the world of hosts: one communicator that takes tensors on the host,
// which go through `host`, and tensors of `context`, which stay on its GPU. Groups split from it do
// the same. A world of one rank needs no NCCL.
//
// Operations on the GPU are enqueued: they run after the context's earlier work and before its
// later work, on a stream of their own, and the call does not wait for them. start_all_reduce()
// lets later work go on beside the sum until wait(). What becomes of them is watched by a thread:
// when NCCL reports an error, or one is not over `timeout` after its turn, all NCCL communicators
// of this rank are aborted, so that nothing waits on the GPU any more, and every later operation
// throws PeerFailed or CollectiveTimeout, which names rank, operation and number. Results that were
// read in between mean nothing. Operations can be captured with the context's stream, on all ranks
// or on none; watch_launched() watches over their launches.
//
// Throws UserError, on every rank, where two ranks use one GPU, unless NCCL is new enough to share
// it and has been told so; on one rank or all, what ncclCommInitRank has to say, or
// CollectiveTimeout.
std::shared_ptr<Communicator> nccl_communicator(std::shared_ptr<Communicator> host,
                                                const ExecutionContext& context,
                                                std::chrono::milliseconds timeout);

// The GPU for rank `local_rank` of the `local_size` ranks of this host: one rank per GPU, in order;
// where the launcher shows each rank a single GPU, that one. Throws UserError where ranks outnumber
// GPUs.
int gpu_of_local_rank(int local_rank, int local_size);

}  // namespace filigree
