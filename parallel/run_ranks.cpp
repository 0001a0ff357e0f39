#include "parallel/run_ranks.hpp"

#include <omp.h>

#include <exception>
#include <numeric>
#include <thread>

#include "parallel/thread_communicator.hpp"

namespace filigree {
namespace {

// The exception that was thrown first: the others follow from it.
class FirstFailure {
 public:
  void record(std::exception_ptr failure) {
    const std::lock_guard lock(mutex_);
    if (!failure_) failure_ = std::move(failure);
  }
  void rethrow() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr failure_;
};

}  // namespace

void run_ranks(int ranks, const std::function<void(std::shared_ptr<Communicator>)>& body,
               const ThreadRanksOptions& options) {
  FILIGREE_CHECK(ranks >= 1, "run_ranks of ", ranks, " ranks");
  const auto state = std::make_shared<ThreadWorld>(ranks);
  std::vector<int> members(static_cast<std::size_t>(ranks));
  std::iota(members.begin(), members.end(), 0);
  const auto group = std::make_shared<ThreadGroup>(state, members, "world", options.timeout);
  FirstFailure first_failure;

  const auto run = [&](int rank) {
    omp_set_num_threads(1);
    const std::shared_ptr<Communicator> world = thread_communicator(group, rank);
    // Recorded before the abort wakes the others, whose PeerFailed must not come first.
    try {
      body(world);
    } catch (const std::exception& error) {
      first_failure.record(std::current_exception());
      world->abort(error.what());
    } catch (...) {
      first_failure.record(std::current_exception());
      world->abort("an exception of unknown type");
    }
    state->depart(rank);
  };

  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) threads.emplace_back(run, rank);
  for (std::thread& thread : threads) thread.join();
  first_failure.rethrow();
}

}  // namespace filigree
