#include "parallel/nccl_group.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "parallel/back_off.hpp"

namespace filigree {
namespace {

std::vector<int> gathered_ranks(Communicator& host, int world_rank) {
  const Tensor mine = Tensor::from<std::int32_t>({1}, std::array{world_rank});
  const Tensor all = Tensor::empty({host.size()}, DType::i32);
  host.all_gather(mine, all);
  const auto ranks = all.span<std::int32_t>();
  return {ranks.begin(), ranks.end()};
}

ncclUniqueId shared_id(Communicator& host) {
  ncclUniqueId id{};
  if (host.rank() == 0) {
    const ncclResult_t result = ncclGetUniqueId(&id);
    if (result != ncclSuccess)
      throw PeerFailed(
          str("ncclGetUniqueId: ", ncclGetErrorString(result), "; ", ncclGetLastError(nullptr)),
          -1);
  }
  const Tensor bytes = Tensor::empty({static_cast<std::int64_t>(sizeof(id))}, DType::u8);
  std::memcpy(bytes.raw(), &id, sizeof(id));
  host.broadcast(bytes, 0);
  std::memcpy(&id, bytes.raw(), sizeof(id));
  return id;
}

CollectiveCall call_of(const char* operation) {
  CollectiveCall call;
  call.operation = operation;
  call.sequence = 1;
  return call;
}

}  // namespace

NcclGroup::NcclGroup(std::shared_ptr<NcclWorld> world, Communicator& host)
    : world_(std::move(world)),
      name_(host.name()),
      members_(gathered_ranks(host, world_->rank())),
      stream_(make_communication_stream(world_->compute().device().index)),
      ready_(*stream_),
      exceptions_at_start_(std::uncaught_exceptions()) {
  world_->add(*this);
  try {
    open(host);
  } catch (...) {
    world_->remove(*this);
    throw;
  }
}

// NCCL takes the GPU that is current: that of the stream and of the event made before.
void NcclGroup::open(Communicator& host) {
  const ncclUniqueId id = shared_id(host);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  const CollectiveCall call = call_of("ncclCommInitRank");
  settle(call, world_->while_alive([&] {
    return ncclCommInitRankConfig(&comm_, host.size(), id, host.rank(), &config);
  }));
}

NcclGroup::~NcclGroup() {
  try {
    if (std::uncaught_exceptions() > exceptions_at_start_)
      throw PeerFailed(str(world_->who(), " gives up"), world_->rank());
    close();
  } catch (...) {
    // A rank that cannot leave in order aborts: the next operation of the others says so.
    world_->fail(std::current_exception());
  }
  world_->remove(*this);
}

void NcclGroup::close() {
  const CollectiveCall call = call_of("ncclCommFinalize");
  settle(call, world_->while_alive([&] { return ncclCommFinalize(comm_); }));
  world_->while_alive([&] { ncclCommDestroy(give_up()); });
}

std::shared_ptr<const CudaEvent> NcclGroup::enqueue(const CollectiveCall& call, const Body& body) {
  ready_.record(world_->compute());
  ready_.wait(*stream_);
  settle(call, world_->while_alive(
                   [&] { return body(comm_, static_cast<cudaStream_t>(stream_->native())); }));
  const auto done = std::make_shared<CudaEvent>(*stream_);
  done->record(*stream_);
  if (!world_->compute().capturing()) watch(call, done);
  return done;
}

void NcclGroup::watch_launched(const CollectiveCall& call) {
  const auto done = std::make_shared<CudaEvent>(*stream_);
  done->record(world_->compute());
  watch(call, done);
}

void NcclGroup::watch(const CollectiveCall& call, std::shared_ptr<const CudaEvent> done) {
  world_->while_alive([&] {
    forget_finished();
    if (in_flight_.empty()) first_since_ = Clock::now();
    in_flight_.push_back({call, std::move(done)});
  });
}

void NcclGroup::settle(const CollectiveCall& call, ncclResult_t result) {
  try {
    const auto start = Clock::now();
    for (check(result, call); result == ncclInProgress; check(result, call)) {
      const auto waited = Clock::now() - start;
      if (waited > world_->timeout()) throw_timeout(call);
      back_off(waited);
      world_->while_alive([&] { check(ncclCommGetAsyncError(comm_, &result), call); });
    }
  } catch (...) {
    world_->fail(std::current_exception());
    throw;
  }
}

void NcclGroup::forget_finished() {
  while (!in_flight_.empty() && in_flight_.front().done->reached()) {
    in_flight_.pop_front();
    first_since_ = Clock::now();
  }
}

void NcclGroup::look() {
  forget_finished();
  if (!comm_) return;
  // What a captured step does here is watched over by another group: its errors are not.
  const CollectiveCall call =
      in_flight_.empty() ? call_of("captured work") : in_flight_.front().call;
  ncclResult_t state = ncclSuccess;
  check(ncclCommGetAsyncError(comm_, &state), call);
  check(state, call);
  if (!in_flight_.empty() && Clock::now() - first_since_ > world_->timeout()) throw_timeout(call);
}

void NcclGroup::check(ncclResult_t result, const CollectiveCall& call) const {
  if (result == ncclSuccess || result == ncclInProgress) return;
  const std::string sentence = str(described(call), ": NCCL says '", ncclGetErrorString(result),
                                   "': ", ncclGetLastError(comm_));
  if (result == ncclInvalidArgument || result == ncclInvalidUsage) throw InternalError(sentence);
  throw PeerFailed(sentence, -1);
}

void NcclGroup::throw_timeout(const CollectiveCall& call) const {
  throw CollectiveTimeout(str(described(call), " waited ", world_->timeout().count(),
                              " ms in vain for ", other_ranks(call)));
}

std::string NcclGroup::described(const CollectiveCall& call) const {
  return str(world_->who(), ", GPU ", stream_->device().index, ", in ", call.operation, " #",
             call.sequence, " on ", name_, " (", call.bytes, " bytes)");
}

// NCCL does not say who is missing: the one that does not name itself in an error of its own.
std::string NcclGroup::other_ranks(const CollectiveCall& call) const {
  if (call.is_pair) return str("rank ", members_[static_cast<std::size_t>(call.peer)]);
  std::string others;
  for (const int member : members_)
    if (member != world_->rank()) others += str(others.empty() ? "" : ", ", member);
  return str(members_.size() > 2 ? "one of ranks " : "rank ", others);
}

}  // namespace filigree
