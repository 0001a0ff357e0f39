// How a command that runs on many ranks meets the others and leaves.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "parallel/communicator.hpp"
#include "parallel/mpi_environment.hpp"

namespace filigree {

struct RankEnvironment {
  MpiEnvironment& mpi;
  std::shared_ptr<Communicator> world;  // of hosts
  std::chrono::milliseconds timeout;    // of every collective
};

// Runs `body` with the world of this job and returns its exit code. An AgreedError is printed by
// rank 0 and every rank leaves in order; any other exception is printed with the rank that met it
// and ends the job at once.
int run_in_world(double collective_timeout_seconds,
                 const std::function<int(const RankEnvironment&)>& body);

// A warning on standard error.
void warn_on_console(const std::string& text);

// For commands that are one process: throws UserError under mpirun.
void require_single_process(const char* command);

// OpenMP threads of this rank: `wanted`, or where that is 0 the processors that the ranks of this
// host may use, shared out evenly. Collective.
int threads_per_rank(int wanted, const RankEnvironment& environment);
// The same for a process on its own.
int threads_of_process(int wanted);

}  // namespace filigree
