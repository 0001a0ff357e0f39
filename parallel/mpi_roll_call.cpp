#include "parallel/mpi_roll_call.hpp"

#include <algorithm>

#include "parallel/mpi_communicator.hpp"

namespace filigree {

MpiRollCall::MpiRollCall(MPI_Comm comm) : comm_(comm) {
  check_mpi(MPI_Comm_rank(comm, &rank_), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(comm, &size_), "MPI_Comm_size");
  heard_.assign(static_cast<std::size_t>(size_), 0);
}

MpiRollCall::~MpiRollCall() {
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (finalized != 0) return;
  // Eight bytes leave eagerly: nothing is in flight any more, unless the peer is dead.
  for (Message& message : sent_)
    for (MPI_Request& request : message.requests)
      if (request != MPI_REQUEST_NULL) MPI_Request_free(&request);
}

void MpiRollCall::announce(std::int64_t sequence) {
  if (announced_ >= sequence) return;
  announced_ = sequence;
  sent_.remove_if([](Message& message) {
    int done = 0;
    MPI_Testall(static_cast<int>(message.requests.size()), message.requests.data(), &done,
                MPI_STATUSES_IGNORE);
    return done != 0;
  });
  sent_.push_back({sequence, {}});
  for (int peer = 0; peer < size_; ++peer) {
    if (peer == rank_) continue;
    MPI_Request& request = sent_.back().requests.emplace_back();
    check_mpi(MPI_Isend(&sent_.back().sequence, 1, MPI_INT64_T, peer, mpi_tag::kRollCall, comm_,
                        &request),
              "MPI_Isend");
  }
}

void MpiRollCall::listen(std::int64_t sequence) {
  for (;;) {
    int arrived = 0;
    MPI_Status status;
    check_mpi(MPI_Iprobe(MPI_ANY_SOURCE, mpi_tag::kRollCall, comm_, &arrived, &status),
              "MPI_Iprobe");
    if (arrived == 0) return;
    std::int64_t theirs = 0;
    check_mpi(MPI_Recv(&theirs, 1, MPI_INT64_T, status.MPI_SOURCE, mpi_tag::kRollCall, comm_,
                       MPI_STATUS_IGNORE),
              "MPI_Recv");
    std::int64_t& heard = heard_[static_cast<std::size_t>(status.MPI_SOURCE)];
    heard = std::max(heard, theirs);
    announce(sequence);
  }
}

std::vector<int> MpiRollCall::missing(std::int64_t sequence) const {
  std::vector<int> ranks;
  for (int r = 0; r < size_; ++r)
    if (r != rank_ && heard_[static_cast<std::size_t>(r)] < sequence) ranks.push_back(r);
  return ranks;
}

}  // namespace filigree
