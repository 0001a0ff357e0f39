// Private to this folder: how ranks that wait in vain find out who is missing.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <list>
#include <vector>

namespace filigree {

// MPI does not say who keeps a collective from finishing. A rank that has waited for long therefore
// tells all others of the group how far it has come (the sequence number of its collective), and
// every rank that waits too answers. Those that have not been heard of when the time is over are
// the missing ones. Costs nothing until a rank waits for long.
class MpiRollCall {
 public:
  explicit MpiRollCall(MPI_Comm comm);
  ~MpiRollCall();
  MpiRollCall(const MpiRollCall&) = delete;
  MpiRollCall& operator=(const MpiRollCall&) = delete;

  // Tells the others that this rank has joined collective `sequence`. Again for the same sequence:
  // nothing.
  void announce(std::int64_t sequence);
  // Takes in what has arrived; answers with `sequence` when anything has.
  void listen(std::int64_t sequence);
  // Ranks of the group that are not known to have joined collective `sequence`.
  std::vector<int> missing(std::int64_t sequence) const;

 private:
  struct Message {
    std::int64_t sequence;
    std::vector<MPI_Request> requests;
  };
  MPI_Comm comm_;
  int rank_ = 0, size_ = 1;
  std::int64_t announced_ = 0;
  std::vector<std::int64_t> heard_;  // per rank: the latest collective it has joined
  std::list<Message> sent_;          // stays in place while MPI reads from it
};

}  // namespace filigree
