// Meetings of ranks: agreement when they call, and the transfer once all streams are there.
#include <algorithm>

#include "tests/harness/simt/engine/nccl.hpp"

namespace simt {
namespace {

constexpr const char* kTypes[] = {"ncclInt8",    "ncclUint8",   "ncclInt32",   "ncclUint32",
                                  "ncclInt64",   "ncclUint64",  "ncclFloat16", "ncclFloat32",
                                  "ncclFloat64", "ncclBfloat16"};
constexpr const char* kReductions[] = {"ncclSum", "ncclProd", "ncclMax", "ncclMin"};

// A fault that concerns several ranks shows on each of them.
void fail_all(Machine& machine, const NcclMeeting& meeting, const std::string& what) {
  for (const auto& arrival : meeting.arrivals) {
    if (arrival.member != nullptr) machine.fail(arrival.member->device, what);
  }
}

// Elements of the send and of the receive buffer.
std::pair<std::size_t, std::size_t> buffer_counts(const NcclCall& call, std::size_t ranks) {
  switch (call.kind) {
    case NcclKind::reduce_scatter:
      return {call.count * ranks, call.count};
    case NcclKind::all_gather:
      return {call.count, call.count * ranks};
    case NcclKind::send:
      return {call.count, 0};
    case NcclKind::receive:
      return {0, call.count};
    default:
      return {call.count, call.count};
  }
}

// Checks each rank's buffers as accesses of its device, then moves the elements.
void perform(Machine& machine, NcclMeeting& meeting) {
  meeting.done = true;
  machine.notify();
  try {
    for (std::size_t r = 0; r < meeting.arrivals.size(); ++r) {
      const auto& [member, call, in_stream, place] = meeting.arrivals[r];
      machine.begin(member->device, place);
      auto [in, out] = buffer_counts(call, meeting.arrivals.size());
      if (call.kind == NcclKind::broadcast && call.peer != static_cast<int>(r)) in = 0;
      const std::size_t bytes = nccl_size(call.type);
      machine.check().operation_access(call.in, in * bytes, Access::read);
      machine.check().operation_access(call.out, out * bytes, Access::write);
    }
    nccl_transfer(meeting);
  } catch (const Fault& fault) {
    fail_all(machine, meeting, fault.what());
  }
}

std::string number_text(const NcclClique& clique) {
  return " of NCCL communicator " + std::to_string(clique.number);
}

}  // namespace

std::string NcclCall::name() const {
  constexpr const char* kNames[] = {"ncclAllReduce", "ncclReduceScatter", "ncclAllGather",
                                    "ncclBroadcast", "ncclSend",          "ncclRecv"};
  return kNames[static_cast<int>(kind)];
}

std::string NcclCall::text() const {
  std::string text = name();
  if (reduce) text += std::string("(") + kReductions[*reduce] + ")";
  text += " of " + std::to_string(count) + ' ' + kTypes[type];
  if (kind == NcclKind::broadcast) text += " from root " + std::to_string(peer);
  return text;
}

std::string NcclCall::difference(const NcclCall& other) const {
  if (is_pair() ? !other.is_pair() : kind != other.kind) return "operation";
  if (count != other.count) return "count";
  if (type != other.type) return "type";
  if (reduce != other.reduce) return "reduction";
  if (kind == NcclKind::broadcast && peer != other.peer) return "root";
  return {};
}

std::string NcclMember::described() const {
  return "rank " + std::to_string(rank) + number_text(*clique);
}

bool NcclMeeting::complete() const {
  return std::all_of(arrivals.begin(), arrivals.end(), [](const Arrival& arrival) {
    return arrival.in_stream && !arrival.member->aborted;
  });
}

std::string NcclMeeting::missing() const {
  std::string text;
  for (std::size_t r = 0; r < arrivals.size(); ++r) {
    if (arrivals[r].in_stream) continue;
    text += (text.empty() ? "rank " : " and rank ") + std::to_string(r);
    text += arrivals[r].member == nullptr ? ", which has not called it"
                                          : ", whose stream has not reached it";
  }
  return text;
}

NcclOperation::~NcclOperation() {
  if (!captured_) return;
  for (const Part& part : parts_) --part.member->captured;
}

void NcclOperation::become_captured() {
  captured_ = true;
  for (const Part& part : parts_) ++part.member->captured;
}

void NcclOperation::announce(Machine& machine) {
  for (Part& part : parts_) {
    NcclMember& member = *part.member;
    NcclClique& clique = *member.clique;
    NcclClique::Key key{-1, -1, 0};
    part.index = static_cast<std::size_t>(member.rank);
    if (part.call.is_pair()) {
      const auto peer = static_cast<std::size_t>(part.call.peer);
      part.index = part.call.kind == NcclKind::send ? 0 : 1;
      key = part.index == 0 ? NcclClique::Key{member.rank, peer, ++member.sent[peer]}
                            : NcclClique::Key{peer, member.rank, ++member.received[peer]};
    } else {
      std::get<2>(key) = ++member.calls;
    }
    ++member.outstanding;
    std::shared_ptr<NcclMeeting>& meeting = clique.meetings[key];
    if (meeting == nullptr) {
      meeting = std::make_shared<NcclMeeting>();
      meeting->arrivals.resize(part.call.is_pair() ? 2 : static_cast<std::size_t>(clique.size));
      meeting->title =
          part.call.name() + " #" + std::to_string(std::get<2>(key)) + number_text(clique);
    }
    part.meeting = meeting;
    auto& arrivals = meeting->arrivals;
    arrivals[part.index].member = part.member;
    arrivals[part.index].call = part.call;
    bool all = true;
    for (const auto& other : arrivals) {
      all = all && other.member != nullptr;
      if (other.member == nullptr) continue;
      const std::string difference = part.call.difference(other.call);
      if (difference.empty()) continue;
      const std::string what = "ranks disagree in the " + difference + " of " + meeting->title +
                               ": rank " + std::to_string(other.member->rank) + " calls " +
                               other.call.text() + ", rank " + std::to_string(member.rank) +
                               " calls " + part.call.text();
      fail_all(machine, *meeting, what);
      machine.usable(member.device);  // throws it
    }
    if (all) clique.meetings.erase(key);
  }
}

Progress NcclOperation::advance(Machine& machine, int, const Place& place) {
  bool aborted = false, done = true;
  for (Part& part : parts_) {
    aborted = aborted || part.member->aborted;
    if (aborted) break;
    auto& arrival = part.meeting->arrivals[part.index];
    arrival.place = place;
    arrival.place.name = part.meeting->title;
    arrival.in_stream = true;
  }
  for (const Part& part : parts_) {
    if (aborted) break;
    if (!part.meeting->done && part.meeting->complete()) perform(machine, *part.meeting);
    done = done && part.meeting->done;
  }
  if (!aborted && !done) return Progress::blocked;
  if (!ended_) {
    for (const Part& part : parts_) --part.member->outstanding;
  }
  ended_ = true;
  return Progress::done;
}

std::shared_ptr<Operation> NcclOperation::instance() {
  auto copy = std::make_shared<NcclOperation>(parts_);
  copy->announce(Machine::instance());
  return copy;
}

std::string NcclOperation::name() const { return parts_.front().call.text(); }

std::string NcclOperation::waits_for() const {
  for (const Part& part : parts_) {
    if (part.meeting != nullptr && !part.meeting->done) {
      return part.meeting->title + ", for " + part.meeting->missing();
    }
  }
  return name();
}

}  // namespace simt
