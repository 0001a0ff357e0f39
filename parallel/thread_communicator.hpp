// Communicator whose ranks are threads of one process. Private to this folder: use run_ranks.
#pragma once

#include <memory>

#include "parallel/thread_group.hpp"

namespace filigree {

std::unique_ptr<Communicator> thread_communicator(std::shared_ptr<ThreadGroup> group, int rank);

}  // namespace filigree
