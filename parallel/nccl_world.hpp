// Private to this folder: what all NCCL communicators of one rank share.
#pragma once

#include <chrono>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "parallel/communicator.hpp"
#include "parallel/periodic_thread.hpp"
#include "runtime/core/stream.hpp"

namespace filigree {

class NcclGroup;

// They live and die together: a rank that has lost one group can finish no step, and what the
// others have on the GPU waits for ranks that give up too.
class NcclWorld {
 public:
  // `host` is the world of hosts, `compute` the stream of the rank's kernels.
  NcclWorld(std::shared_ptr<Communicator> host, std::shared_ptr<Stream> compute,
            std::chrono::milliseconds timeout);

  const std::string& who() const { return who_; }  // "rank 3 on node17"
  int rank() const { return host_->rank(); }
  const Stream& compute() const { return *compute_; }
  std::chrono::milliseconds timeout() const { return timeout_; }

  // Throws what has ended this world. Any thread.
  void throw_if_failed() const;
  // What `function` returns. The watch aborts no communicator meanwhile: every call into NCCL goes
  // through here. Throws what has ended this world.
  template <class Function>
  auto while_alive(Function&& function) {
    const std::lock_guard lock(mutex_);
    check();
    return function();
  }
  // Ends this world with the exception that every later operation throws; the first one stays.
  void fail(std::exception_ptr failure) noexcept;

  void add(NcclGroup& group);
  void remove(NcclGroup& group);

 private:
  void check() const;
  bool look();  // false once the world has ended
  void end(std::exception_ptr failure) noexcept;

  const std::shared_ptr<Communicator> host_;
  const std::shared_ptr<Stream> compute_;
  const std::chrono::milliseconds timeout_;
  const std::string who_;
  mutable std::mutex mutex_;  // of everything below, and of the calls into NCCL
  std::exception_ptr failure_;
  std::vector<NcclGroup*> groups_;
  // One for each communicator that is given up. They end once their rank has let go of what it has
  // captured: NCCL keeps a communicator as long as a graph uses it.
  std::vector<std::jthread> aborts_;
  PeriodicThread watch_;  // last: it ends before what it looks at
};

}  // namespace filigree
