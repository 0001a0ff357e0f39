// Communicator over an MPI communicator. Private to this folder and its tests: use MpiEnvironment.
#pragma once

#include <mpi.h>

#include <chrono>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "parallel/communicator.hpp"
#include "parallel/mpi_reduction.hpp"
#include "parallel/watchdog.hpp"

namespace filigree {

namespace mpi_tag {
inline constexpr int kData = 0;
inline constexpr int kRollCall = 1;
inline constexpr int kFirstReduction = 16;
}  // namespace mpi_tag

// Throws PeerFailed with MPI's own words when `code` is an error.
void check_mpi(int code, const char* function);

// What all communicators of one MPI world share.
struct MpiWorld {
  struct Options {
    std::chrono::milliseconds timeout{600000};
    // Most elements in one MPI call, whose counts are 32-bit: larger operations go in pieces.
    std::int64_t max_count = std::int64_t{1} << 30;
  };
  explicit MpiWorld(const Options& options);
  ~MpiWorld();
  MpiWorld(const MpiWorld&) = delete;
  MpiWorld& operator=(const MpiWorld&) = delete;

  std::string name_of_rank(int world_rank) const;  // "rank 3 on node17"
  // Moves every reduction in flight on, whatever group it belongs to: a rank that waits in one
  // operation must not keep the others from finishing another.
  void progress();

  const Options options;
  int rank = 0;
  std::vector<std::string> hosts;  // by rank of the world
  std::list<std::shared_ptr<MpiReduction>> in_flight;
  std::unique_ptr<Watchdog> watchdog;
};

// Takes `comm` over.
std::unique_ptr<Communicator> mpi_communicator(std::shared_ptr<MpiWorld> world, MPI_Comm comm,
                                               const std::string& name);

}  // namespace filigree
