// The MPI world of this process.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "parallel/communicator.hpp"
#include "runtime/core/library_version.hpp"

namespace filigree {

// Initialises MPI for its lifetime, when the process was started by an MPI launcher; otherwise it
// does not touch MPI and the world is this process alone. Finalises on destruction unless an
// exception is under way, in which case it ends the job so that no other rank waits for this one.
// Only the thread that makes it may use its communicators.
//
// A main function that catches everything inside the environment's lifetime and calls abort(code)
// on failure keeps the exit code of the first rank that failed:
//   MpiEnvironment mpi(&argc, &argv);
//   try { ... mpi.world(timeout) ... } catch (const Error& e) { print(e); mpi.abort(e.code()); }
class MpiEnvironment {
 public:
  MpiEnvironment(int* argc, char*** argv);
  ~MpiEnvironment();
  MpiEnvironment(const MpiEnvironment&) = delete;
  MpiEnvironment& operator=(const MpiEnvironment&) = delete;

  // Whether the process was started by mpirun (or srun): otherwise the world has one rank.
  static bool launched_by_mpi();
  static LibraryVersion library();

  // Collective. `timeout` is every collective's, here and in all groups split from this world. A
  // rank that stays inside MPI for a quarter longer is ended with exit code 76 by the world's
  // watchdog.
  std::shared_ptr<Communicator> world(std::chrono::milliseconds timeout);
  int local_rank() const { return local_rank_; }  // among the ranks of this host
  int local_size() const { return local_size_; }
  std::string host_name() const;
  // Ends the whole job with this exit code; does not return. A world of one just exits.
  [[noreturn]] void abort(int code) noexcept;

 private:
  bool initialised_ = false;
  int exceptions_at_start_ = 0;
  int local_rank_ = 0, local_size_ = 1;
  std::shared_ptr<Communicator> world_;  // the latest: its ranks meet before MPI_Finalize
};

}  // namespace filigree
