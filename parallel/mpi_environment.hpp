// The MPI world of this process.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "parallel/communicator.hpp"

namespace filigree {

// Initialises MPI for its lifetime. Finalises on destruction unless an exception or abort is under way, in which case
// it calls MPI_Abort so that no other rank waits for this one.
class MpiEnvironment {
 public:
  MpiEnvironment(int* argc, char*** argv);
  ~MpiEnvironment();
  MpiEnvironment(const MpiEnvironment&) = delete;
  MpiEnvironment& operator=(const MpiEnvironment&) = delete;

  // Whether the process was started by mpirun (or srun): otherwise the world has one rank.
  static bool launched_by_mpi();

  std::shared_ptr<Communicator> world(std::chrono::milliseconds timeout);
  int local_rank() const;        // among the ranks of this host
  int local_size() const;
  std::string host_name() const;
  // Ends the whole job with this exit code; does not return.
  [[noreturn]] void abort(int code) noexcept;

 private:
  int local_rank_ = 0, local_size_ = 1;
};

}  // namespace filigree
