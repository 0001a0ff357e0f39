#include "parallel/thread_group.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace filigree {
namespace {

std::string join_ranks(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (std::size_t i = 0; i < ranks.size(); ++i) text += str(i == 0 ? "" : ", ", ranks[i]);
  return text;
}

// Whether two calls of one meeting fit. The two ends of a pair differ in operation and peer, by
// nature.
bool agree(const CollectiveCall& a, const CollectiveCall& b) {
  if (a.bytes != b.bytes || a.dtype != b.dtype || a.reduce != b.reduce) return false;
  return (a.is_pair && b.is_pair) ||
         (std::strcmp(a.operation, b.operation) == 0 && a.peer == b.peer);
}

std::string described_with_root(const CollectiveCall& call, const std::vector<int>& members) {
  const bool rooted = call.peer >= 0 && !call.is_pair;
  return rooted ? str(call.signature(), " from rank ", members[static_cast<std::size_t>(call.peer)])
                : call.signature();
}

}  // namespace

void ThreadWorld::abort(int rank, const std::string& why) {
  const std::lock_guard lock(mutex);
  if (failed_rank < 0) {
    failed_rank = rank;
    reason = why;
  }
  changed.notify_all();
}

void ThreadWorld::depart(int rank) {
  const std::lock_guard lock(mutex);
  departed[static_cast<std::size_t>(rank)] = true;
  changed.notify_all();
}

ThreadGroup::ThreadGroup(std::shared_ptr<ThreadWorld> world, std::vector<int> members,
                         std::string name, std::chrono::milliseconds timeout)
    : world_(std::move(world)),
      members_(std::move(members)),
      name_(std::move(name)),
      timeout_(timeout) {}

ThreadGroup::Key ThreadGroup::key_of(int rank, const CollectiveCall& call) {
  if (!call.is_pair) return {-1, -1, call.sequence};
  const bool sends = std::strcmp(call.operation, "send") == 0;
  return sends ? Key{rank, call.peer, call.sequence} : Key{call.peer, rank, call.sequence};
}

ThreadGroup::Meeting& ThreadGroup::meeting_of(const Key& key, int rank,
                                              const CollectiveCall& call) {
  std::shared_ptr<Meeting>& meeting = meetings_[key];
  if (meeting) return *meeting;
  meeting = std::make_shared<Meeting>();
  meeting->call = call;
  meeting->first = rank;
  meeting->by_rank.resize(members_.size());
  meeting->arrived.assign(members_.size(), false);
  if (call.is_pair) {
    meeting->participants = {std::min(rank, call.peer), std::max(rank, call.peer)};
  } else {
    meeting->participants.resize(members_.size());
    std::iota(meeting->participants.begin(), meeting->participants.end(), 0);
  }
  return *meeting;
}

std::shared_ptr<ThreadGroup::Meeting> ThreadGroup::join(int rank, const CollectiveCall& call,
                                                        Meeting::Contribution contribution) {
  const std::lock_guard lock(world_->mutex);
  throw_if_aborted(described(rank, call));
  const Key key = key_of(rank, call);
  Meeting& meeting = meeting_of(key, rank, call);
  if (meeting.gave_up >= 0) {
    const int gone = world_rank(meeting.gave_up);
    throw PeerFailed(
        str("rank ", gone, " gave up waiting; ", described(rank, call), " came too late"), gone);
  }
  check_agreement(meeting, rank, call);
  meeting.by_rank[static_cast<std::size_t>(rank)] = std::move(contribution);
  meeting.arrived[static_cast<std::size_t>(rank)] = true;
  if (++meeting.arrivals == meeting.participants.size()) world_->changed.notify_all();
  return meetings_[key];
}

void ThreadGroup::check_agreement(Meeting& meeting, int rank, const CollectiveCall& call) {
  if (meeting.mismatch.empty()) {
    if (agree(meeting.call, call)) return;
    meeting.mismatch =
        str("operations do not match at #", call.sequence, " on ", name_, ": rank ",
            world_rank(meeting.first), " calls ", described_with_root(meeting.call, members_),
            ", rank ", world_rank(rank), " calls ", described_with_root(call, members_));
    world_->changed.notify_all();
  }
  throw InternalError(meeting.mismatch);
}

void ThreadGroup::finish(int rank, const CollectiveCall& call, Meeting& meeting, int parts,
                         const Work& work) {
  std::unique_lock lock(world_->mutex);
  await_arrivals(lock, rank, call, meeting);
  while (meeting.next_part < parts) {
    const int part = meeting.next_part++;
    lock.unlock();
    work(meeting, part);
    lock.lock();
    if (++meeting.finished_parts == parts) world_->changed.notify_all();
  }
  // Parts still open are being worked on by running threads: this wait ends by itself.
  world_->changed.wait(lock, [&] { return meeting.finished_parts == parts; });
  if (++meeting.left == meeting.participants.size()) meetings_.erase(key_of(rank, call));
}

void ThreadGroup::await_arrivals(std::unique_lock<std::mutex>& lock, int rank,
                                 const CollectiveCall& call, Meeting& meeting) {
  const auto deadline = std::chrono::steady_clock::now() + timeout_;
  while (!meeting.complete()) {
    check_failures(rank, call, meeting);
    const bool timed_out = world_->changed.wait_until(lock, deadline) == std::cv_status::timeout;
    if (timed_out && !meeting.complete() && meeting.gave_up < 0) meeting.gave_up = rank;
  }
}

void ThreadGroup::check_failures(int rank, const CollectiveCall& call,
                                 const Meeting& meeting) const {
  if (!meeting.mismatch.empty()) throw InternalError(meeting.mismatch);
  throw_if_aborted(described(rank, call));
  const std::vector<int> absent = missing(meeting);
  if (meeting.gave_up >= 0)
    throw CollectiveTimeout(str(described(rank, call), " waited ", timeout_.count(),
                                " ms in vain for ", join_ranks(absent)));
  for (const int other : absent)
    if (world_->departed[static_cast<std::size_t>(other)])
      throw PeerFailed(str("rank ", other, " has ended; ", described(rank, call), " waits for it"),
                       other);
}

void ThreadGroup::throw_if_aborted(int rank) const {
  const std::lock_guard lock(world_->mutex);
  throw_if_aborted(str("rank ", world_rank(rank)));
}

void ThreadGroup::throw_if_aborted(const std::string& noticed_by) const {
  if (world_->failed_rank < 0) return;
  throw PeerFailed(str("rank ", world_->failed_rank, " failed: ", world_->reason, " (noticed by ",
                       noticed_by, ')'),
                   world_->failed_rank);
}

std::vector<int> ThreadGroup::missing(const Meeting& meeting) const {
  std::vector<int> ranks;
  for (const int r : meeting.participants)
    if (!meeting.arrived[static_cast<std::size_t>(r)]) ranks.push_back(world_rank(r));
  return ranks;
}

std::string ThreadGroup::described(int rank, const CollectiveCall& call) const {
  const std::string with = call.is_pair ? str(" with rank ", world_rank(call.peer)) : "";
  return str("rank ", world_rank(rank), " in ", call.operation, " #", call.sequence, with, " on ",
             name_, " (", call.bytes, " bytes)");
}

}  // namespace filigree
