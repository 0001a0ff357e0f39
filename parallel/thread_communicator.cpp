#include "parallel/thread_communicator.hpp"

#include <algorithm>

#include "parallel/mesh.hpp"
#include "parallel/reduce_elements.hpp"

namespace filigree {
namespace {

using Meeting = ThreadGroup::Meeting;
using Contribution = Meeting::Contribution;

std::byte* element(const Tensor& tensor, std::int64_t index) {
  return static_cast<std::byte*>(tensor.raw()) + index * size_of(tensor.dtype());
}

// Part `part` of `parts` equal ones, as a flat tensor.
Tensor part_of(const Tensor& tensor, int part, int parts) {
  const std::int64_t count = tensor.numel() / parts;
  return tensor.flat(part * count, {count});
}

// Slice `part` of the elements, summed over ranks in rank order and written to every rank. No rank
// touches another slice, so the ranks can share the work in place.
void reduce_slice(Meeting& meeting, int part) {
  const Tensor& any = meeting.by_rank[0].in;
  const ShardRange range = shard_range(any.numel(), static_cast<int>(meeting.by_rank.size()), part);
  std::vector<void*> buffers;
  for (const Contribution& c : meeting.by_rank) buffers.push_back(element(c.in, range.begin));
  const std::vector<const void*> inputs(buffers.begin(), buffers.end());
  reduce_elements(any.dtype(), *meeting.call.reduce, inputs, buffers, range.size());
}

void reduce_part_to_its_rank(Meeting& meeting, int part) {
  const Tensor& out = meeting.by_rank[static_cast<std::size_t>(part)].out;
  std::vector<const void*> inputs;
  for (const Contribution& c : meeting.by_rank) inputs.push_back(element(c.in, part * out.numel()));
  void* const output = out.raw();
  reduce_elements(out.dtype(), ReduceOp::sum, inputs, {&output, 1}, out.numel());
}

void gather_from_rank(Meeting& meeting, int from) {
  const int ranks = static_cast<int>(meeting.by_rank.size());
  const Tensor& in = meeting.by_rank[static_cast<std::size_t>(from)].in;
  for (const Contribution& to : meeting.by_rank) part_of(to.out, from, ranks).copy_from(in);
}

void exchange_to_rank(Meeting& meeting, int to) {
  const int ranks = static_cast<int>(meeting.by_rank.size());
  const Tensor& out = meeting.by_rank[static_cast<std::size_t>(to)].out;
  for (int from = 0; from < ranks; ++from)
    part_of(out, from, ranks)
        .copy_from(part_of(meeting.by_rank[static_cast<std::size_t>(from)].in, to, ranks));
}

void broadcast_to_rank(Meeting& meeting, int to) {
  if (to == meeting.call.peer) return;
  meeting.by_rank[static_cast<std::size_t>(to)].out.copy_from(
      meeting.by_rank[static_cast<std::size_t>(meeting.call.peer)].in);
}

// Ranks that gave the same color, ordered by key and then by rank.
std::vector<int> ranks_of_color(const Meeting& meeting, int color) {
  std::vector<int> ranks;
  for (std::size_t r = 0; r < meeting.by_rank.size(); ++r)
    if (meeting.by_rank[r].color == color) ranks.push_back(static_cast<int>(r));
  std::stable_sort(ranks.begin(), ranks.end(), [&](int a, int b) {
    return meeting.by_rank[static_cast<std::size_t>(a)].key <
           meeting.by_rank[static_cast<std::size_t>(b)].key;
  });
  return ranks;
}

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<ThreadGroup> group, int rank)
      : Communicator(rank, group->size(), group->name()), group_(std::move(group)) {}

  void abort(const std::string& reason) noexcept override {
    group_->world()->abort(group_->members()[static_cast<std::size_t>(rank())], reason);
  }
  void throw_if_aborted() const override { group_->throw_if_aborted(rank()); }

 protected:
  void do_barrier(const Call& call) override { meet(call, {}, 0, nullptr); }
  void do_all_reduce(const Call& call, const Tensor& tensor) override {
    meet(call, {tensor, tensor}, size(), reduce_slice);
  }
  void do_all_gather(const Call& call, const Tensor& in, const Tensor& out) override {
    meet(call, {in, out}, size(), gather_from_rank);
  }
  void do_reduce_scatter(const Call& call, const Tensor& in, const Tensor& out) override {
    meet(call, {in, out}, size(), reduce_part_to_its_rank);
  }
  void do_all_to_all(const Call& call, const Tensor& in, const Tensor& out) override {
    meet(call, {in, out}, size(), exchange_to_rank);
  }
  void do_broadcast(const Call& call, const Tensor& tensor) override {
    meet(call, {tensor, tensor}, size(), broadcast_to_rank);
  }
  void do_send(const Call& call, const Tensor& tensor) override {
    meet_peer(call, tensor, rank(), call.peer);
  }
  void do_receive(const Call& call, const Tensor& tensor) override {
    meet_peer(call, tensor, call.peer, rank());
  }
  std::function<void()> do_start_all_reduce(const Call& call, const Tensor& tensor) override {
    return [this, call, meeting = group_->join(rank(), call, {tensor, tensor})] {
      group_->finish(rank(), call, *meeting, size(), reduce_slice);
    };
  }
  std::unique_ptr<Communicator> do_split(const Call& call, int color, int key,
                                         const std::string& name) override;

 private:
  std::shared_ptr<Meeting> meet(const Call& call, Contribution contribution, int parts,
                                const ThreadGroup::Work& work) {
    const auto meeting = group_->join(rank(), call, std::move(contribution));
    group_->finish(rank(), call, *meeting, parts, work);
    return meeting;
  }
  void meet_peer(const Call& call, const Tensor& tensor, int from, int to) {
    meet(call, {tensor, tensor}, 1, [from, to](Meeting& meeting, int) {
      meeting.by_rank[static_cast<std::size_t>(to)].out.copy_from(
          meeting.by_rank[static_cast<std::size_t>(from)].in);
    });
  }

  std::shared_ptr<ThreadGroup> group_;
};

std::unique_ptr<Communicator> ThreadCommunicator::do_split(const Call& call, int color, int key,
                                                           const std::string& name) {
  Contribution contribution;
  contribution.color = color;
  contribution.key = key;
  const auto make_groups = [this, &name](Meeting& meeting, int) {
    for (const Contribution& c : meeting.by_rank) {
      if (meeting.groups.count(c.color) != 0) continue;
      std::vector<int> members;
      for (const int r : ranks_of_color(meeting, c.color))
        members.push_back(group_->members()[static_cast<std::size_t>(r)]);
      meeting.groups[c.color] = std::make_shared<ThreadGroup>(group_->world(), std::move(members),
                                                              name, group_->timeout());
    }
  };
  const auto meeting = meet(call, std::move(contribution), 1, make_groups);
  const std::vector<int> ranks = ranks_of_color(*meeting, color);
  const auto mine = std::find(ranks.begin(), ranks.end(), rank());
  return thread_communicator(meeting->groups.at(color), static_cast<int>(mine - ranks.begin()));
}

}  // namespace

std::unique_ptr<Communicator> thread_communicator(std::shared_ptr<ThreadGroup> group, int rank) {
  return std::make_unique<ThreadCommunicator>(std::move(group), rank);
}

}  // namespace filigree
