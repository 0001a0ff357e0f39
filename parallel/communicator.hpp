// Communicator: the collectives of one group of ranks, behind one interface for threads, MPI and
// NCCL.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/core/tensor.hpp"

namespace filigree {

enum class ReduceOp { sum, max, min };
const char* name_of(ReduceOp op);

// What a communicator has done so far.
struct CommunicatorStatistics {
  std::int64_t calls = 0;
  std::int64_t bytes = 0;  // payload this rank contributed
  double seconds = 0.0;    // time spent inside calls and waits
};

// One operation as one rank calls it. What every rank of the group must agree on, and what error
// messages say.
struct CollectiveCall {
  const char* operation = "";
  std::int64_t sequence = 0;  // 1 is the group's (for send and receive: the pair's) first
  std::int64_t bytes = 0;     // payload this rank contributes
  std::optional<DType> dtype = {};
  std::optional<ReduceOp> reduce = {};
  int peer = -1;         // the root of a broadcast, the other end of a send or receive
  bool is_pair = false;  // a send or receive: only two ranks take part

  // "all_reduce(sum) of 8192 bytes f32"
  std::string signature() const;
};

// A collective in flight. wait() must be called before the tensor is touched again, by the thread
// that started it and while the communicator lives.
class [[nodiscard]] Pending {
 public:
  Pending() = default;
  explicit Pending(std::function<void()> wait) : wait_(std::move(wait)) {}
  Pending(Pending&& other) noexcept : wait_(std::exchange(other.wait_, nullptr)) {}
  Pending& operator=(Pending&& other) noexcept {
    wait_ = std::exchange(other.wait_, nullptr);
    return *this;
  }
  void wait() {
    if (auto wait = std::exchange(wait_, nullptr)) wait();
  }
  bool active() const { return static_cast<bool>(wait_); }

 private:
  std::function<void()> wait_;
};

// Every rank of the group calls the same operations in the same order with the same sizes and
// dtypes; the thread communicator checks that and names the ranks that differ. Tensors are where
// the communicator reaches: on the host; for NCCL on its GPU too, in the order of that rank's other
// work; in a group of one anywhere. Every operation has a sequence number and a timeout: it throws
// CollectiveTimeout when the others do not come, and PeerFailed once another rank has aborted. A
// communicator is used by one thread, its rank's.
//
// Sums of host tensors are added in rank order, bf16 in f32 and rounded once: the same bits on
// every rank, in every run, and for threads as for MPI. NCCL's order is its own: the same bits on
// every rank, and in every run of one layout. Dtypes: f64, f32, bf16, i64, i32 for reductions; any
// for the rest.
//
// `in` and `out` must not overlap, except that `in` of all_gather and `out` of reduce_scatter may
// be exactly this rank's part of the other.
class Communicator {
 public:
  virtual ~Communicator() = default;

  int rank() const { return rank_; }
  int size() const { return size_; }
  const std::string& name() const { return name_; }  // "world", "data", "tensor", ...
  // Whether tensors on `device` can be given.
  virtual bool reaches(const Device& device) const { return device.kind == DeviceKind::cpu; }

  void barrier();  // of the hosts
  void all_reduce(const Tensor& tensor, ReduceOp op = ReduceOp::sum);
  // out holds size() times as many elements as in, in rank order.
  void all_gather(const Tensor& in, const Tensor& out);
  // in holds size() times as many elements as out; out is the sum over ranks of this rank's part.
  void reduce_scatter(const Tensor& in, const Tensor& out);
  // in and out hold size() equal parts; part r of in goes to rank r, part r of out came from rank
  // r.
  void all_to_all(const Tensor& in, const Tensor& out);
  void broadcast(const Tensor& tensor, int root);
  // Over once the peer has begun to receive: two ranks that both send first wait for ever (until
  // the timeout).
  void send(const Tensor& tensor, int peer);
  void receive(const Tensor& tensor, int peer);
  // Runs while the caller computes, and while it waits in other operations, on this group or
  // another. Never needs the other ranks to wait for it: it is enough that they have started it.
  Pending start_all_reduce(const Tensor& tensor, ReduceOp op = ReduceOp::sum);

  // For operations that were captured from a stream and have been launched again: what this rank
  // has enqueued by now is watched over like an operation called `name`, so that ranks which do not
  // come to it are noticed. Collective, as every launch is; nothing where operations wait
  // themselves.
  void watch_launched(const char* name);

  // The ranks that give the same color, ordered by key, then by rank. Collective over this group.
  std::unique_ptr<Communicator> split(int color, int key, const std::string& name);

  // Called by the rank that fails, with its reason. Threads: every later operation of every
  // communicator derived from the same world throws PeerFailed on the other ranks, also when they
  // already wait in one. MPI: ends the job.
  virtual void abort(const std::string& reason) noexcept = 0;
  // Throws PeerFailed when another rank has aborted. Waits for nobody; any thread may call it.
  virtual void throw_if_aborted() const {}

  const CommunicatorStatistics& statistics() const { return statistics_; }

 protected:
  Communicator(int rank, int size, std::string name);

  // Arguments have been checked. A call whose tensors are empty is made nevertheless: it is part of
  // the order.
  using Call = CollectiveCall;
  virtual void do_barrier(const Call&) = 0;
  virtual void do_all_reduce(const Call&, const Tensor&) = 0;
  virtual void do_all_gather(const Call&, const Tensor& in, const Tensor& out) = 0;
  virtual void do_reduce_scatter(const Call&, const Tensor& in, const Tensor& out) = 0;
  virtual void do_all_to_all(const Call&, const Tensor& in, const Tensor& out) = 0;
  virtual void do_broadcast(const Call&, const Tensor&) = 0;
  virtual void do_send(const Call&, const Tensor&) = 0;
  virtual void do_receive(const Call&, const Tensor&) = 0;
  virtual std::function<void()> do_start_all_reduce(const Call&, const Tensor&) = 0;
  virtual void do_watch_launched(const Call&) {}
  virtual std::unique_ptr<Communicator> do_split(const Call&, int color, int key,
                                                 const std::string& name) = 0;

 private:
  Call next_call(const char* operation);
  Call next_call(const char* operation, const Tensor& tensor);
  Call next_pair_call(const char* operation, const Tensor& tensor, int peer,
                      std::vector<std::int64_t>& sequences);
  void check_parts(const char* operation, const Tensor& whole, const Tensor& part) const;
  void check_reached(const char* operation, const Tensor& tensor) const;
  template <class Function>
  auto timed(const Call& call, Function&& function);

  int rank_;
  int size_;
  std::string name_;
  std::int64_t sequence_ = 0;
  std::vector<std::int64_t> sent_, received_;  // per peer
  CommunicatorStatistics statistics_;
};

// A group of one: every call is a copy.
std::unique_ptr<Communicator> self_communicator(const std::string& name = "self");

}  // namespace filigree
