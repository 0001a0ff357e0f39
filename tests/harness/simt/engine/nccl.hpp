// Emulated NCCL: where the ranks of a communicator, threads of this process, meet.
#pragma once

#include <nccl.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "tests/harness/simt/engine/machine.hpp"

namespace simt {

enum class NcclKind { all_reduce, reduce_scatter, all_gather, broadcast, send, receive };

// One call as one rank makes it; the ranks must agree on it.
struct NcclCall {
  NcclKind kind = NcclKind::all_reduce;
  std::size_t count = 0;  // as given to the API
  ncclDataType_t type = ncclInt8;
  std::optional<ncclRedOp_t> reduce = {};
  int peer = -1;  // the root of a broadcast, the other end of a send or receive
  const void* in = nullptr;
  void* out = nullptr;

  bool is_pair() const { return kind == NcclKind::send || kind == NcclKind::receive; }
  std::string name() const;  // "ncclAllReduce"
  std::string text() const;  // "ncclAllReduce(ncclSum) of 100 ncclFloat32"
  // What differs from the call of another rank in the same place: "count", or empty.
  std::string difference(const NcclCall& other) const;
};

std::size_t nccl_size(ncclDataType_t type);

struct NcclClique;

// What one rank holds of a communicator. Outlives ncclComm_t while operations are queued.
struct NcclMember {
  std::shared_ptr<NcclClique> clique;
  int rank = 0, device = 0;
  bool blocking = true, aborted = false;
  std::uint64_t calls = 0;                    // collectives so far
  std::vector<std::uint64_t> sent, received;  // by peer
  std::size_t outstanding = 0;                // operations queued and not done
  std::size_t captured = 0;                   // operations in graphs that are still there

  std::string described() const;  // "rank 1 of NCCL communicator 3"
};

// One collective, or one send with its receive, on its way.
struct NcclMeeting {
  struct Arrival {
    std::shared_ptr<NcclMember> member;  // null: has not called yet
    NcclCall call;
    bool in_stream = false;  // its stream has reached the operation
    Place place;
  };
  std::vector<Arrival> arrivals;  // by rank; of a pair: the sender, the receiver
  std::string title;              // "ncclAllReduce #3 of NCCL communicator 1"
  bool done = false;

  bool complete() const;
  std::string missing() const;  // "rank 2 and rank 3"
};

// The ranks of one communicator.
struct NcclClique {
  using Key = std::tuple<int, int, std::uint64_t>;  // (-1, -1, n), or (from, to, n)
  std::uint64_t number = 0;
  int size = 0;
  std::vector<std::weak_ptr<NcclMember>> members;
  int joined = 0;
  ncclResult_t error = ncclSuccess;  // why it can never be used
  bool abandoned = false;            // a member has aborted
  std::map<Key, std::shared_ptr<NcclMeeting>> meetings;
};

// Calls that run as one operation of a stream: one, or those between ncclGroupStart and
// ncclGroupEnd.
class NcclOperation : public Operation {
 public:
  struct Part {
    std::shared_ptr<NcclMember> member;
    NcclCall call;
    std::shared_ptr<NcclMeeting> meeting = nullptr;
    std::size_t index = 0;  // of this rank in the meeting
  };
  explicit NcclOperation(std::vector<Part> parts) : parts_(std::move(parts)) {}
  ~NcclOperation() override;

  // Keeps the communicators of its parts as long as this is there.
  void become_captured();

  // Takes a number for each part, in the order in which ranks call. Throws Fault, on every rank,
  // where ranks disagree.
  void announce(Machine& machine);

  Progress advance(Machine& machine, int device, const Place& place) override;
  std::shared_ptr<Operation> instance() override;
  std::string name() const override;
  std::string waits_for() const override;

 private:
  std::vector<Part> parts_;
  bool ended_ = false, captured_ = false;
};

// Moves and adds the elements of a meeting whose ranks are all there.
void nccl_transfer(const NcclMeeting& meeting);

}  // namespace simt

struct ncclComm {
  std::shared_ptr<simt::NcclMember> member;
  bool finalizing = false;
  struct Deferred {
    cudaStream_t stream;
    std::shared_ptr<simt::NcclOperation> operation;
  };
  std::vector<Deferred> deferred;  // answered with ncclInProgress, not in the stream yet
};
