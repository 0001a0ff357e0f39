// Private to this folder: where ranks that are threads of one process meet.
#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "parallel/communicator.hpp"

namespace filigree {

// What all groups split from one world share. Everything below is guarded by `mutex`; one condition
// variable for all groups, so that a failure wakes every waiting rank.
struct ThreadWorld {
  explicit ThreadWorld(int ranks) : departed(static_cast<std::size_t>(ranks), false) {}

  // Rank `rank` has failed: the others leave their operations with PeerFailed. The first caller's
  // reason stays.
  void abort(int rank, const std::string& reason);
  // Rank `rank` will join no further operation.
  void depart(int rank);

  std::mutex mutex;
  std::condition_variable changed;
  int failed_rank = -1;
  std::string reason;
  std::vector<bool> departed;
};

class ThreadGroup {
 public:
  // One operation on its way: ranks add what they bring, and when all have come, whoever is there
  // does the work. No rank waits for another's wait(), so a started operation cannot deadlock with
  // a blocking one.
  struct Meeting {
    struct Contribution {
      Tensor in, out;  // held here so that memory outlives a rank that leaves with an exception
      int color = 0, key = 0;
    };
    CollectiveCall call;                // as the first rank to come made it
    int first = -1;                     // that rank
    std::vector<int> participants;      // ranks of the group
    std::vector<Contribution> by_rank;  // indexed by rank of the group
    std::vector<bool> arrived;          // likewise
    std::size_t arrivals = 0;
    int next_part = 0, finished_parts = 0;
    std::size_t left = 0;
    std::string mismatch;                                // why the operation can never be done
    int gave_up = -1;                                    // a rank whose patience ended
    std::map<int, std::shared_ptr<ThreadGroup>> groups;  // split only: by color

    bool complete() const { return arrivals == participants.size(); }
  };
  // Does part `part` of a meeting's work; called without the lock, once per part.
  using Work = std::function<void(Meeting&, int part)>;

  // `members` are ranks of the world.
  ThreadGroup(std::shared_ptr<ThreadWorld> world, std::vector<int> members, std::string name,
              std::chrono::milliseconds timeout);

  int size() const { return static_cast<int>(members_.size()); }
  const std::vector<int>& members() const { return members_; }
  const std::string& name() const { return name_; }
  std::chrono::milliseconds timeout() const { return timeout_; }
  const std::shared_ptr<ThreadWorld>& world() const { return world_; }

  // Adds a contribution without waiting. Throws InternalError when the calls do not match,
  // PeerFailed.
  std::shared_ptr<Meeting> join(int rank, const CollectiveCall& call,
                                Meeting::Contribution contribution);
  // Waits for the others, shares the work of `parts` parts with them, and returns when all of it is
  // done.
  void finish(int rank, const CollectiveCall& call, Meeting& meeting, int parts, const Work& work);
  // Throws PeerFailed, on behalf of `rank`, once a rank of the world has aborted.
  void throw_if_aborted(int rank) const;

 private:
  // Collectives are (-1, -1, sequence); a send and its receive are (from, to, sequence of the
  // pair).
  using Key = std::tuple<int, int, std::int64_t>;
  static Key key_of(int rank, const CollectiveCall& call);
  Meeting& meeting_of(const Key& key, int rank, const CollectiveCall& call);
  void check_agreement(Meeting& meeting, int rank, const CollectiveCall& call);
  void await_arrivals(std::unique_lock<std::mutex>& lock, int rank, const CollectiveCall& call,
                      Meeting& meeting);
  void check_failures(int rank, const CollectiveCall& call, const Meeting& meeting) const;
  void throw_if_aborted(const std::string& noticed_by) const;
  std::vector<int> missing(const Meeting& meeting) const;  // ranks of the world
  std::string described(int rank, const CollectiveCall& call) const;
  int world_rank(int rank) const { return members_[static_cast<std::size_t>(rank)]; }

  std::shared_ptr<ThreadWorld> world_;
  std::vector<int> members_;
  std::string name_;
  std::chrono::milliseconds timeout_;
  std::map<Key, std::shared_ptr<Meeting>> meetings_;  // guarded by world_->mutex
};

}  // namespace filigree
