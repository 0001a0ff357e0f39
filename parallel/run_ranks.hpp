// Ranks as threads of one process: how most tests run any mesh.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "parallel/communicator.hpp"

namespace filigree {

struct ThreadRanksOptions {
  std::chrono::milliseconds timeout{60000};  // of every collective
};

// Runs body(world) on `ranks` threads, each with its own world communicator and one OpenMP thread.
// When a body throws, the world is aborted, the others leave their collectives with PeerFailed, and
// the first cause is rethrown here after all have ended. When a body returns while others wait for
// it, they throw PeerFailed at once.
void run_ranks(int ranks, const std::function<void(std::shared_ptr<Communicator>)>& body,
               const ThreadRanksOptions& options = {});

}  // namespace filigree
