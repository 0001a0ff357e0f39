// Communicator: the collectives of one group of ranks, behind one interface for threads and MPI.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "runtime/core/tensor.hpp"

namespace filigree {

enum class ReduceOp { sum, max, min };

// What a communicator has done so far.
struct CommunicatorStatistics {
  std::int64_t calls = 0;
  std::int64_t bytes = 0;      // payload this rank contributed
  double seconds = 0.0;        // time spent inside calls and waits
};

// A collective in flight. wait() must be called before the tensor is touched again.
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

// Every rank of the group calls the same operations in the same order with the same sizes and dtypes; the thread
// communicator checks that and names the ranks that differ. Tensors are on the host. Every operation has a
// sequence number and a timeout: it throws CollectiveTimeout when the others do not come, and PeerFailed once another
// rank has aborted. Sums are added in a fixed order that depends on the group only, bf16 in f32.
// Dtypes: f64, f32, bf16, i64, i32 for reductions; any for the rest.
class Communicator {
 public:
  virtual ~Communicator() = default;

  int rank() const { return rank_; }
  int size() const { return size_; }
  const std::string& name() const { return name_; }  // "world", "data", "tensor", ...

  void barrier();
  void all_reduce(const Tensor& tensor, ReduceOp op = ReduceOp::sum);
  // out holds size() times as many elements as in, in rank order.
  void all_gather(const Tensor& in, const Tensor& out);
  // in holds size() times as many elements as out; out is the sum over ranks of this rank's part.
  void reduce_scatter(const Tensor& in, const Tensor& out);
  // in and out hold size() equal parts; part r of in goes to rank r, part r of out came from rank r.
  void all_to_all(const Tensor& in, const Tensor& out);
  void broadcast(const Tensor& tensor, int root);
  void send(const Tensor& tensor, int peer);
  void receive(const Tensor& tensor, int peer);
  // Runs while the caller computes. Started operations finish in the order of their start.
  Pending start_all_reduce(const Tensor& tensor, ReduceOp op = ReduceOp::sum);

  // The ranks that give the same color, ordered by key. Collective over this group.
  std::unique_ptr<Communicator> split(int color, int key, const std::string& name);

  // Makes every present and future operation of every communicator derived from the same world throw
  // PeerFailed on the other ranks. Called by the rank that fails, with its reason.
  virtual void abort(const std::string& reason) noexcept = 0;

  const CommunicatorStatistics& statistics() const { return statistics_; }

 protected:
  Communicator(int rank, int size, std::string name)
      : rank_(rank), size_(size), name_(std::move(name)) {}

  // For error messages: "all_reduce #12 on data (8192 bytes)".
  struct Call {
    const char* operation;
    std::int64_t sequence;
    std::int64_t bytes;
  };
  virtual void do_barrier(const Call&) = 0;
  virtual void do_all_reduce(const Call&, const Tensor&, ReduceOp) = 0;
  virtual void do_all_gather(const Call&, const Tensor& in, const Tensor& out) = 0;
  virtual void do_reduce_scatter(const Call&, const Tensor& in, const Tensor& out) = 0;
  virtual void do_all_to_all(const Call&, const Tensor& in, const Tensor& out) = 0;
  virtual void do_broadcast(const Call&, const Tensor&, int root) = 0;
  virtual void do_send(const Call&, const Tensor&, int peer) = 0;
  virtual void do_receive(const Call&, const Tensor&, int peer) = 0;
  virtual std::function<void()> do_start_all_reduce(const Call&, const Tensor&, ReduceOp) = 0;
  virtual std::unique_ptr<Communicator> do_split(int color, int key, const std::string& name) = 0;
  std::string describe(const Call& call) const;

 private:
  template <class Function>
  auto timed(const char* operation, std::int64_t bytes, Function&& function);

  int rank_;
  int size_;
  std::string name_;
  std::int64_t sequence_ = 0;
  CommunicatorStatistics statistics_;
};

// A group of one: every call is a copy.
std::unique_ptr<Communicator> self_communicator(const std::string& name = "self");

}  // namespace filigree
