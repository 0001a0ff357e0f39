// NCCL's functions. An argument that NCCL would not check, and that would make it hang or crash, is
// a Fault; what NCCL answers with an error is that error.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "tests/harness/simt/engine/api.hpp"
#include "tests/harness/simt/engine/nccl.hpp"

namespace simt {
namespace {

struct Grouped {
  ncclComm_t comm;
  cudaStream_t stream;
  NcclOperation::Part part;
};
// Calls between ncclGroupStart and ncclGroupEnd belong to the thread, as in NCCL.
thread_local int group_depth = 0;
thread_local ncclResult_t group_result = ncclSuccess;  // an error of a call in the group
thread_local std::vector<Grouped> grouped;
thread_local std::string last_error;

// By unique id; guarded by the machine's lock. A communicator that all ranks have joined is held
// by them.
std::map<std::uint64_t, std::shared_ptr<NcclClique>>& joining() {
  static std::map<std::uint64_t, std::shared_ptr<NcclClique>> cliques;
  return cliques;
}

ncclResult_t failed(ncclResult_t code, std::string what) {
  last_error = std::move(what);
  if (group_depth > 0) group_result = code;
  return code;
}

void put_into(Machine& machine, CUstream_st& stream, std::shared_ptr<NcclOperation> operation) {
  if (stream.capture == nullptr)
    operation->announce(machine);
  else
    operation->become_captured();
  machine.enqueue(stream, std::move(operation));
}

// Work in a stream, now or, on a non-blocking communicator, perhaps later.
ncclResult_t enqueue(Call& call, ncclComm_t comm, cudaStream_t stream,
                     std::shared_ptr<NcclOperation> operation) {
  if (!comm->member->blocking && call.machine.random().below(2) == 0) {
    comm->deferred.push_back({stream, std::move(operation)});
    return ncclInProgress;
  }
  CUstream_st& target = call.machine.stream(stream, operation->name().c_str());
  put_into(call.machine, target, std::move(operation));
  return ncclSuccess;
}

void check_buffer(Call& call, const NcclMember& member, const NcclCall& made, const void* buffer) {
  const auto address = reinterpret_cast<std::uintptr_t>(buffer);
  const std::string who = member.described() + ", " + made.text() + ": ";
  if (!call.machine.memory().holds(address)) throw Fault(who + "a buffer is not device memory");
  const Allocation* allocation = call.machine.memory().around(address);
  if (allocation != nullptr && allocation->device != member.device) {
    throw Fault(who + "a buffer belongs to device " + std::to_string(allocation->device) +
                ", the rank to device " + std::to_string(member.device));
  }
}

ncclResult_t enter(ncclComm_t comm, cudaStream_t stream, const NcclCall& made) {
  Call call;
  if (comm == nullptr) return failed(ncclInvalidArgument, "the communicator is null");
  const NcclMember& member = *comm->member;
  if (!call.machine.usable(member.device)) return ncclUnhandledCudaError;
  if (member.clique->joined < member.clique->size || !comm->deferred.empty() || comm->finalizing) {
    return failed(ncclInvalidArgument,
                  "the communicator is used before its previous call has succeeded");
  }
  if (made.peer >= member.clique->size || (made.is_pair() && made.peer < 0)) {
    return failed(ncclInvalidArgument, "there is no rank " + std::to_string(made.peer));
  }
  const CUstream_st& target = call.machine.stream(stream, made.name().c_str());
  if (target.device != member.device) {
    throw Fault(member.described() + ", " + made.text() + ": the stream belongs to device " +
                std::to_string(target.device));
  }
  if (made.count > 0 && made.kind != NcclKind::receive) check_buffer(call, member, made, made.in);
  if (made.count > 0 && made.kind != NcclKind::send) check_buffer(call, member, made, made.out);
  NcclOperation::Part part{comm->member, made};
  if (group_depth > 0) {
    grouped.push_back({comm, stream, std::move(part)});
    return ncclSuccess;
  }
  return enqueue(call, comm, stream, std::make_shared<NcclOperation>(std::vector{part}));
}

bool share_a_device(const NcclClique& clique) {
  for (const auto& a : clique.members) {
    for (const auto& b : clique.members) {
      const auto left = a.lock(), right = b.lock();
      if (left != nullptr && right != nullptr && left != right && left->device == right->device) {
        return true;
      }
    }
  }
  return false;
}

ncclResult_t progress_of(ncclComm_t comm) {
  const NcclMember& member = *comm->member;
  if (member.clique->error != ncclSuccess) return member.clique->error;
  if (member.clique->abandoned && Machine::instance().options().aborts_are_noticed) {
    return ncclRemoteError;
  }
  const bool waits = member.clique->joined < member.clique->size || !comm->deferred.empty() ||
                     (comm->finalizing && member.outstanding > 0);
  return waits ? ncclInProgress : ncclSuccess;
}

void drain(Call& call, const NcclMember& member, const std::function<bool()>& done) {
  try {
    call.machine.drain(call.lock, member.device, done);
  } catch (const Fault& fault) {
    call.machine.device(member.device).fault = fault.what();
  }
}

void drain(Call& call, ncclComm_t comm) {
  drain(call, *comm->member, [&] { return progress_of(comm) != ncclInProgress; });
}

}  // namespace
}  // namespace simt

using simt::Call;
using simt::NcclCall;
using simt::NcclKind;

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  constexpr const char* kTexts[] = {
      "no error",
      "unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
      "unhandled system error (run with NCCL_DEBUG=INFO for details)",
      "internal error - please report this issue to the NCCL developers",
      "invalid argument (run with NCCL_DEBUG=WARN for details)",
      "invalid usage (run with NCCL_DEBUG=WARN for details)",
      "remote process exited or there was a network error",
      "NCCL operation in progress"};
  return result >= 0 && result <= ncclInProgress ? kTexts[result] : "unknown result code";
}

const char* ncclGetLastError(ncclComm_t) { return simt::last_error.c_str(); }

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  Call call;
  const std::uint64_t number = call.machine.next_number();
  *id = {};
  std::memcpy(id->internal, &number, sizeof(number));
  auto clique = std::make_shared<simt::NcclClique>();
  clique->number = number;
  simt::joining()[number] = std::move(clique);
  return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  return ncclCommInitRankConfig(comm, ranks, id, rank, &config);
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  Call call;
  *comm = nullptr;
  std::uint64_t number = 0;
  std::memcpy(&number, id.internal, sizeof(number));
  const auto found = simt::joining().find(number);
  if (ranks < 1 || rank < 0 || rank >= ranks || found == simt::joining().end()) {
    return simt::failed(ncclInvalidArgument, "no such rank, or nobody made this unique id");
  }
  const std::shared_ptr<simt::NcclClique> clique = found->second;
  if (clique->size == 0) {
    clique->size = ranks;
    clique->members.resize(static_cast<std::size_t>(ranks));
  }
  if (clique->size != ranks || !clique->members[static_cast<std::size_t>(rank)].expired()) {
    throw simt::Fault("ncclCommInitRank: rank " + std::to_string(rank) + " of " +
                      std::to_string(ranks) + " joins twice, or others expect " +
                      std::to_string(clique->size) + " ranks");
  }
  auto member = std::make_shared<simt::NcclMember>();
  member->clique = clique;
  member->rank = rank;
  member->device = call.device;
  member->blocking = config == nullptr || config->blocking != 0;
  member->sent.resize(static_cast<std::size_t>(ranks));
  member->received.resize(static_cast<std::size_t>(ranks));
  clique->members[static_cast<std::size_t>(rank)] = member;
  if (++clique->joined == ranks) {
    simt::joining().erase(number);
    if (simt::share_a_device(*clique)) clique->error = ncclInvalidUsage;
  }
  call.machine.notify();
  *comm = new ncclComm{member};
  if (!member->blocking) return ncclInProgress;
  call.machine.drain(call.lock, call.device,
                     [&] { return simt::progress_of(*comm) != ncclInProgress; });
  return simt::progress_of(*comm);
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  Call call;
  comm->finalizing = true;
  if (!comm->member->blocking) return simt::progress_of(comm);
  simt::drain(call, comm);
  return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  if (comm == nullptr) return ncclSuccess;
  {
    Call call;
    comm->finalizing = true;
    simt::drain(call, comm);
    simt::drain(call, *comm->member, [&] { return comm->member->captured == 0; });
  }
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  if (comm == nullptr) return ncclSuccess;
  Call call(simt::Caller::asks);
  simt::NcclClique& clique = *comm->member->clique;
  comm->member->aborted = clique.abandoned = true;
  // Nobody comes to the meetings any more, and they hold the members, which hold the clique.
  const bool all = std::all_of(clique.members.begin(), clique.members.end(), [](const auto& other) {
    const std::shared_ptr<simt::NcclMember> member = other.lock();
    return member == nullptr || member->aborted;
  });
  if (all) clique.meetings.clear();
  call.machine.notify();
  // NCCL frees memory, which waits for all that the device does, and keeps the communicator as long
  // as there is a graph with work of it.
  simt::drain(call, *comm->member, [&] {
    return call.machine.idle(comm->member->device) && comm->member->captured == 0;
  });
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  Call call(simt::Caller::asks);
  if (comm->finalizing) call.machine.drain_once(comm->member->device);
  if (!comm->deferred.empty() && call.machine.random().below(2) == 0) {
    for (auto& [stream, operation] : std::exchange(comm->deferred, {})) {
      CUstream_st& target = call.machine.stream(stream, operation->name().c_str());
      simt::put_into(call.machine, target, std::move(operation));
    }
  }
  *error = simt::progress_of(comm);
  return ncclSuccess;
}

ncclResult_t ncclCommCount(ncclComm_t comm, int* count) {
  *count = comm->member->clique->size;
  return ncclSuccess;
}

ncclResult_t ncclCommCuDevice(ncclComm_t comm, int* device) {
  *device = comm->member->device;
  return ncclSuccess;
}

ncclResult_t ncclCommUserRank(ncclComm_t comm, int* rank) {
  *rank = comm->member->rank;
  return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void* in, void* out, std::size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  return simt::enter(comm, stream, {NcclKind::all_reduce, count, type, op, -1, in, out});
}

ncclResult_t ncclReduceScatter(const void* in, void* out, std::size_t count_out,
                               ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,
                               cudaStream_t stream) {
  return simt::enter(comm, stream, {NcclKind::reduce_scatter, count_out, type, op, -1, in, out});
}

ncclResult_t ncclAllGather(const void* in, void* out, std::size_t count_in, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  return simt::enter(comm, stream, {NcclKind::all_gather, count_in, type, {}, -1, in, out});
}

ncclResult_t ncclBroadcast(const void* in, void* out, std::size_t count, ncclDataType_t type,
                           int root, ncclComm_t comm, cudaStream_t stream) {
  return simt::enter(comm, stream, {NcclKind::broadcast, count, type, {}, root, in, out});
}

ncclResult_t ncclSend(const void* in, std::size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  return simt::enter(comm, stream, {NcclKind::send, count, type, {}, peer, in, nullptr});
}

ncclResult_t ncclRecv(void* out, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return simt::enter(comm, stream, {NcclKind::receive, count, type, {}, peer, nullptr, out});
}

ncclResult_t ncclGroupStart() {
  ++simt::group_depth;
  return ncclSuccess;
}

// What is in one stream becomes one operation of it.
ncclResult_t ncclGroupEnd() {
  if (simt::group_depth == 0) return simt::failed(ncclInvalidUsage, "no ncclGroupStart before");
  if (--simt::group_depth > 0) return ncclSuccess;
  auto calls = std::exchange(simt::grouped, {});
  Call call;
  ncclResult_t result = std::exchange(simt::group_result, ncclSuccess);
  if (result != ncclSuccess) return result;
  while (!calls.empty()) {
    const cudaStream_t stream = calls.front().stream;
    const ncclComm_t comm = calls.front().comm;
    std::vector<simt::NcclOperation::Part> parts;
    for (auto& one : calls) {
      if (one.stream == stream) parts.push_back(one.part);
    }
    std::erase_if(calls, [&](const auto& one) { return one.stream == stream; });
    const ncclResult_t one =
        simt::enqueue(call, comm, stream, std::make_shared<simt::NcclOperation>(std::move(parts)));
    if (one != ncclSuccess) result = one;
  }
  return result;
}
