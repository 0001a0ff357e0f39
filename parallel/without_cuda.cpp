// What a program has in place of NCCL that does not link the CUDA backend.
#include "parallel/nccl_communicator.hpp"

namespace filigree {
namespace {

// Whoever asks has a GPU or its context already, and those are refused where there is no CUDA.
[[noreturn]] void refuse() { FILIGREE_CHECK(false, "NCCL without the CUDA backend"); }

}  // namespace

std::shared_ptr<Communicator> nccl_communicator(std::shared_ptr<Communicator>,
                                                const ExecutionContext&,
                                                std::chrono::milliseconds) {
  refuse();
}
int gpu_of_local_rank(int, int) { refuse(); }

}  // namespace filigree
