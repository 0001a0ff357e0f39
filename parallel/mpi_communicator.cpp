#include "parallel/mpi_communicator.hpp"

#include <sched.h>

#include <algorithm>
#include <cstdio>
#include <list>
#include <span>
#include <thread>

#include "parallel/mpi_roll_call.hpp"

namespace filigree {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

MPI_Datatype mpi_type(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return MPI_DOUBLE;
    case DType::f32:
      return MPI_FLOAT;
    case DType::bf16:
    case DType::f16:
    case DType::u16:
      return MPI_UINT16_T;
    case DType::i64:
      return MPI_INT64_T;
    case DType::i32:
      return MPI_INT32_T;
    case DType::u8:
      break;
  }
  return MPI_UINT8_T;
}

void* element(const Tensor& tensor, std::int64_t index) {
  return static_cast<std::byte*>(tensor.raw()) + index * size_of(tensor.dtype());
}

// Between two looks at a request. Ranks may be more than cores: the first milliseconds give the
// core away at once, later ones sleep, so that a long wait costs nothing.
void pause(Clock::duration waited) {
  if (waited < 2ms)
    sched_yield();
  else
    std::this_thread::sleep_for(waited < 50ms ? 50us : 500us);
}

// Pieces [begin, end) of at most `piece` elements.
template <class Function>
void for_pieces(std::int64_t total, std::int64_t piece, Function&& function) {
  for (std::int64_t begin = 0; begin < total; begin += piece)
    function(begin, std::min(total, begin + piece));
}

// Elements [begin, end) of each of `parts` equal parts of `whole`, one after another; and back.
Tensor pack(const Tensor& whole, int parts, std::int64_t begin, std::int64_t end) {
  const std::int64_t stride = whole.numel() / parts, count = end - begin;
  const Tensor packed =
      Tensor::empty({parts * count}, whole.dtype(), host_allocator(), MemoryUse::communication);
  for (int p = 0; p < parts; ++p)
    packed.flat(p * count, {count}).copy_from(whole.flat(p * stride + begin, {count}));
  return packed;
}

void unpack(const Tensor& packed, const Tensor& whole, int parts, std::int64_t begin,
            std::int64_t end) {
  const std::int64_t stride = whole.numel() / parts, count = end - begin;
  for (int p = 0; p < parts; ++p)
    whole.flat(p * stride + begin, {count}).copy_from(packed.flat(p * count, {count}));
}

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(std::shared_ptr<MpiWorld> world, MPI_Comm comm, int rank, int size,
                  const std::string& name);
  ~MpiCommunicator() override;

  void abort(const std::string& reason) noexcept override;

 protected:
  void do_barrier(const Call& call) override;
  void do_all_reduce(const Call& call, const Tensor& tensor) override;
  void do_all_gather(const Call& call, const Tensor& in, const Tensor& out) override;
  void do_reduce_scatter(const Call& call, const Tensor& in, const Tensor& out) override;
  void do_all_to_all(const Call& call, const Tensor& in, const Tensor& out) override;
  void do_broadcast(const Call& call, const Tensor& tensor) override;
  void do_send(const Call& call, const Tensor& tensor) override;
  void do_receive(const Call& call, const Tensor& tensor) override;
  std::function<void()> do_start_all_reduce(const Call& call, const Tensor& tensor) override;
  std::unique_ptr<Communicator> do_split(const Call& call, int color, int key,
                                         const std::string& name) override;

 private:
  using Requests = std::vector<MPI_Request>;
  struct InFlight {
    Tensor tensor;  // keeps the memory while MPI uses it
    Requests requests;
  };
  Watchdog::Guard watch(const Call& call) { return {*world_->watchdog, call, name()}; }
  Requests begin_all_reduce(const Call& call, const Tensor& tensor);
  void await(const Call& call, MPI_Request& request) { await(call, std::span(&request, 1)); }
  void await(const Call& call, std::span<MPI_Request> requests);
  [[noreturn]] void time_out(const Call& call) const;
  std::int64_t part_limit() const { return std::max<std::int64_t>(1, max_count() / size()); }
  std::int64_t max_count() const { return world_->options.max_count; }
  std::string name_of_member(int member) const {
    return world_->name_of_rank(members_[static_cast<std::size_t>(member)]);
  }

  std::shared_ptr<MpiWorld> world_;
  MPI_Comm comm_;
  std::vector<int> members_;  // ranks of MPI_COMM_WORLD
  MpiRollCall roll_call_;
  std::list<InFlight> in_flight_;
};

std::vector<int> world_ranks_of(MPI_Comm comm, int size) {
  MPI_Group group = MPI_GROUP_NULL, world = MPI_GROUP_NULL;
  check_mpi(MPI_Comm_group(comm, &group), "MPI_Comm_group");
  check_mpi(MPI_Comm_group(MPI_COMM_WORLD, &world), "MPI_Comm_group");
  std::vector<int> ranks(static_cast<std::size_t>(size)), result(ranks.size());
  for (int r = 0; r < size; ++r) ranks[static_cast<std::size_t>(r)] = r;
  check_mpi(MPI_Group_translate_ranks(group, size, ranks.data(), world, result.data()),
            "MPI_Group_translate_ranks");
  MPI_Group_free(&group);
  MPI_Group_free(&world);
  return result;
}

MpiCommunicator::MpiCommunicator(std::shared_ptr<MpiWorld> world, MPI_Comm comm, int rank, int size,
                                 const std::string& name)
    : Communicator(rank, size, name),
      world_(std::move(world)),
      comm_(comm),
      members_(world_ranks_of(comm, size)),
      roll_call_(comm) {
  check_mpi(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
}

MpiCommunicator::~MpiCommunicator() {
  // Left by an exception: the job is about to end, and MPI may still write to these tensors until
  // then.
  if (!in_flight_.empty()) {
    new std::list<InFlight>(std::move(in_flight_));
    return;
  }
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (finalized == 0) MPI_Comm_free(&comm_);
}

void MpiCommunicator::abort(const std::string& reason) noexcept {
  std::fprintf(stderr, "%s failed: %s\n", name_of_member(rank()).c_str(), reason.c_str());
  std::fflush(stderr);
  MPI_Abort(MPI_COMM_WORLD, exit_code::kPeerFailed);
}

void MpiCommunicator::await(const Call& call, std::span<MPI_Request> requests) {
  const auto start = Clock::now();
  for (;;) {
    int done = 0;
    check_mpi(
        MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done, MPI_STATUSES_IGNORE),
        call.operation);
    if (done != 0) return;
    const auto waited = Clock::now() - start;
    if (!call.is_pair && waited > 50ms) {
      if (waited > world_->options.timeout / 2) roll_call_.announce(call.sequence);
      roll_call_.listen(call.sequence);
    }
    if (waited > world_->options.timeout) time_out(call);
    pause(waited);
  }
}

void MpiCommunicator::time_out(const Call& call) const {
  std::string missing;
  if (call.is_pair) {
    missing = name_of_member(call.peer);
  } else {
    for (const int r : roll_call_.missing(call.sequence))
      missing += str(missing.empty() ? "" : ", ", name_of_member(r));
  }
  throw CollectiveTimeout(str(name_of_member(rank()), " in ", call.operation, " #", call.sequence,
                              " on ", name(), " (", call.bytes, " bytes) waited ",
                              world_->options.timeout.count(), " ms in vain for ", missing));
}

void MpiCommunicator::do_barrier(const Call& call) {
  const auto guard = watch(call);
  MPI_Request request = MPI_REQUEST_NULL;
  check_mpi(MPI_Ibarrier(comm_, &request), "MPI_Ibarrier");
  await(call, request);
}

MpiCommunicator::Requests MpiCommunicator::begin_all_reduce(const Call& call,
                                                            const Tensor& tensor) {
  Requests requests;
  for_pieces(tensor.numel(), max_count(), [&](std::int64_t begin, std::int64_t end) {
    check_mpi(MPI_Iallreduce(MPI_IN_PLACE, element(tensor, begin), static_cast<int>(end - begin),
                             mpi_type(tensor.dtype()), world_->op_of(tensor.dtype(), *call.reduce),
                             comm_, &requests.emplace_back(MPI_REQUEST_NULL)),
              "MPI_Iallreduce");
  });
  return requests;
}

void MpiCommunicator::do_all_reduce(const Call& call, const Tensor& tensor) {
  const auto guard = watch(call);
  Requests requests = begin_all_reduce(call, tensor);
  await(call, requests);
}

std::function<void()> MpiCommunicator::do_start_all_reduce(const Call& call, const Tensor& tensor) {
  const auto guard = watch(call);
  in_flight_.push_back({tensor, begin_all_reduce(call, tensor)});
  // MPI moves data only while it is called: look after the ones that have started before.
  for (InFlight& started : in_flight_) {
    int done = 0;
    check_mpi(MPI_Testall(static_cast<int>(started.requests.size()), started.requests.data(), &done,
                          MPI_STATUSES_IGNORE),
              call.operation);
  }
  return [this, call, mine = std::prev(in_flight_.end())] {
    const auto guard = watch(call);
    await(call, mine->requests);
    in_flight_.erase(mine);
  };
}

void MpiCommunicator::do_all_gather(const Call& call, const Tensor& in, const Tensor& out) {
  const MPI_Datatype type = mpi_type(in.dtype());
  const auto gather = [&](const void* from, void* to, std::int64_t count) {
    const bool in_place =
        from == static_cast<std::byte*>(to) + rank() * count * size_of(in.dtype());
    const auto guard = watch(call);
    MPI_Request request = MPI_REQUEST_NULL;
    check_mpi(MPI_Iallgather(in_place ? MPI_IN_PLACE : from, static_cast<int>(count), type, to,
                             static_cast<int>(count), type, comm_, &request),
              "MPI_Iallgather");
    await(call, request);
  };
  if (in.numel() <= part_limit()) return gather(in.raw(), out.raw(), in.numel());
  for_pieces(in.numel(), part_limit(), [&](std::int64_t begin, std::int64_t end) {
    const Tensor packed = Tensor::empty({size() * (end - begin)}, in.dtype(), host_allocator(),
                                        MemoryUse::communication);
    gather(element(in, begin), packed.raw(), end - begin);
    unpack(packed, out, size(), begin, end);
  });
}

void MpiCommunicator::do_reduce_scatter(const Call& call, const Tensor& in, const Tensor& out) {
  const auto scatter = [&](const void* from, void* to, std::int64_t count) {
    const auto guard = watch(call);
    MPI_Request request = MPI_REQUEST_NULL;
    check_mpi(MPI_Ireduce_scatter_block(from, to, static_cast<int>(count), mpi_type(in.dtype()),
                                        world_->op_of(in.dtype(), ReduceOp::sum), comm_, &request),
              "MPI_Ireduce_scatter_block");
    await(call, request);
  };
  const bool overlaps = out.raw() == element(in, rank() * out.numel());
  if (out.numel() <= part_limit() && !overlaps) return scatter(in.raw(), out.raw(), out.numel());
  for_pieces(out.numel(), part_limit(), [&](std::int64_t begin, std::int64_t end) {
    const Tensor packed = pack(in, size(), begin, end);
    scatter(packed.raw(), element(out, begin), end - begin);
  });
}

void MpiCommunicator::do_all_to_all(const Call& call, const Tensor& in, const Tensor& out) {
  const MPI_Datatype type = mpi_type(in.dtype());
  const auto exchange = [&](const void* from, void* to, std::int64_t count) {
    const auto guard = watch(call);
    MPI_Request request = MPI_REQUEST_NULL;
    check_mpi(MPI_Ialltoall(from, static_cast<int>(count), type, to, static_cast<int>(count), type,
                            comm_, &request),
              "MPI_Ialltoall");
    await(call, request);
  };
  const std::int64_t part = in.numel() / size();
  if (part <= part_limit()) return exchange(in.raw(), out.raw(), part);
  for_pieces(part, part_limit(), [&](std::int64_t begin, std::int64_t end) {
    const Tensor from = pack(in, size(), begin, end);
    const Tensor to =
        Tensor::empty(from.shape(), in.dtype(), host_allocator(), MemoryUse::communication);
    exchange(from.raw(), to.raw(), end - begin);
    unpack(to, out, size(), begin, end);
  });
}

void MpiCommunicator::do_broadcast(const Call& call, const Tensor& tensor) {
  const auto guard = watch(call);
  Requests requests;
  for_pieces(tensor.numel(), max_count(), [&](std::int64_t begin, std::int64_t end) {
    check_mpi(
        MPI_Ibcast(element(tensor, begin), static_cast<int>(end - begin), mpi_type(tensor.dtype()),
                   call.peer, comm_, &requests.emplace_back(MPI_REQUEST_NULL)),
        "MPI_Ibcast");
  });
  await(call, requests);
}

void MpiCommunicator::do_send(const Call& call, const Tensor& tensor) {
  const auto send = [&](std::int64_t begin, std::int64_t end) {
    const auto guard = watch(call);
    MPI_Request request = MPI_REQUEST_NULL;
    check_mpi(MPI_Issend(element(tensor, begin), static_cast<int>(end - begin),
                         mpi_type(tensor.dtype()), call.peer, mpi_tag::kData, comm_, &request),
              "MPI_Issend");
    await(call, request);
  };
  if (tensor.numel() == 0) return send(0, 0);
  for_pieces(tensor.numel(), max_count(), send);
}

void MpiCommunicator::do_receive(const Call& call, const Tensor& tensor) {
  const auto receive = [&](std::int64_t begin, std::int64_t end) {
    const auto guard = watch(call);
    MPI_Request request = MPI_REQUEST_NULL;
    check_mpi(MPI_Irecv(element(tensor, begin), static_cast<int>(end - begin),
                        mpi_type(tensor.dtype()), call.peer, mpi_tag::kData, comm_, &request),
              "MPI_Irecv");
    await(call, request);
  };
  if (tensor.numel() == 0) return receive(0, 0);
  for_pieces(tensor.numel(), max_count(), receive);
}

std::unique_ptr<Communicator> MpiCommunicator::do_split(const Call& call, int color, int key,
                                                        const std::string& name) {
  const auto guard = watch(call);
  FILIGREE_CHECK(color >= 0, "split of ", this->name(), " by color ", color);
  MPI_Comm part = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split(comm_, color, key, &part), "MPI_Comm_split");
  return mpi_communicator(world_, part, name);
}

}  // namespace

std::unique_ptr<Communicator> mpi_communicator(std::shared_ptr<MpiWorld> world, MPI_Comm comm,
                                               const std::string& name) {
  int rank = 0, size = 1;
  check_mpi(MPI_Comm_rank(comm, &rank), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(comm, &size), "MPI_Comm_size");
  return std::make_unique<MpiCommunicator>(std::move(world), comm, rank, size, name);
}

}  // namespace filigree
