// Private to this folder: which GPU belongs to which rank.
#pragma once

#include "parallel/communicator.hpp"

namespace filigree {

// Collective. Throws UserError, on every rank, that names two ranks which use the same GPU, unless
// NCCL can share it.
void check_one_rank_per_gpu(Communicator& host, int gpu);

}  // namespace filigree
