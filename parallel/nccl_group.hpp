// Private to this folder: one NCCL communicator, its stream, and what is on its way there.
#pragma once

#include <nccl.h>

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "parallel/nccl_world.hpp"
#include "runtime/cuda/cuda_device.hpp"

namespace filigree {

class NcclGroup {
 public:
  // Collective over `host`, whose ranks are those of the group.
  NcclGroup(std::shared_ptr<NcclWorld> world, Communicator& host);
  // Collective too, except where an exception is under way or the world has ended: then what is in
  // flight is given up.
  ~NcclGroup();
  NcclGroup(const NcclGroup&) = delete;
  NcclGroup& operator=(const NcclGroup&) = delete;

  NcclWorld& world() const { return *world_; }
  const std::shared_ptr<NcclWorld>& shared_world() const { return world_; }

  // NCCL calls that together are `call`; ncclInProgress is no error.
  using Body = std::function<ncclResult_t(ncclComm_t comm, cudaStream_t stream)>;
  // Enqueues `body` behind all work that the compute stream has by now. Returns the event that its
  // end reaches; what the compute stream gets next must wait for it.
  // Where that is capturing, `body` is captured with it, and watched over when it is launched.
  std::shared_ptr<const CudaEvent> enqueue(const CollectiveCall& call, const Body& body);
  // Watches over all work that the compute stream has by now, as over one operation.
  void watch_launched(const CollectiveCall& call);

  // For the world, under its lock. Throws PeerFailed, CollectiveTimeout.
  void look();
  // The communicator, which the world aborts; null where that is done.
  ncclComm_t give_up() noexcept { return std::exchange(comm_, nullptr); }

 private:
  using Clock = std::chrono::steady_clock;
  struct InFlight {
    CollectiveCall call;
    std::shared_ptr<const CudaEvent> done;
  };

  void open(Communicator& host);
  void close();
  void watch(const CollectiveCall& call, std::shared_ptr<const CudaEvent> done);
  void forget_finished();
  // Until NCCL has put into the stream, or finished, what it answered with `result`.
  void settle(const CollectiveCall& call, ncclResult_t result);
  void check(ncclResult_t result, const CollectiveCall& call) const;
  [[noreturn]] void throw_timeout(const CollectiveCall& call) const;
  std::string described(const CollectiveCall& call) const;
  std::string other_ranks(const CollectiveCall& call) const;

  std::shared_ptr<NcclWorld> world_;
  const std::string name_;
  std::vector<int> members_;  // ranks of the world
  std::shared_ptr<Stream> stream_;
  CudaEvent ready_;
  ncclComm_t comm_ = nullptr;  // null once the world has ended
  // In the order in which they end; guarded by the world's lock.
  std::deque<InFlight> in_flight_;
  Clock::time_point first_since_;  // when the first of them came to its turn
  const int exceptions_at_start_;
};

}  // namespace filigree
