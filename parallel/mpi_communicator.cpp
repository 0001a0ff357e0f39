#include "parallel/mpi_communicator.hpp"

#include <algorithm>
#include <cstdio>
#include <span>

#include "parallel/back_off.hpp"
#include "parallel/mpi_roll_call.hpp"

namespace filigree {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

void* element(const Tensor& tensor, std::int64_t index) {
  return static_cast<std::byte*>(tensor.raw()) + index * size_of(tensor.dtype());
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
  Watchdog::Guard watch(const Call& call) { return {*world_->watchdog, call, name()}; }
  MpiReduction::Group group() const { return {comm_, rank(), size(), max_count()}; }
  // Adds a reduction to those in flight; its first messages are on their way.
  std::shared_ptr<MpiReduction> start(MpiReduction reduction);
  void await(const Call& call, MPI_Request& request) { await(call, std::span(&request, 1)); }
  void await(const Call& call, std::span<MPI_Request> requests);
  void await(const Call& call, MpiReduction& reduction);
  template <class Done>
  void wait_until(const Call& call, Done&& done);
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
  int finalized = 0;
  MPI_Finalized(&finalized);
  // With reductions in flight an exception is under way, and the job about to end.
  if (finalized == 0 && world_->in_flight.empty()) MPI_Comm_free(&comm_);
}

void MpiCommunicator::abort(const std::string& reason) noexcept {
  std::fprintf(stderr, "%s failed: %s\n", name_of_member(rank()).c_str(), reason.c_str());
  std::fflush(stderr);
  MPI_Abort(MPI_COMM_WORLD, exit_code::kPeerFailed);
}

template <class Done>
void MpiCommunicator::wait_until(const Call& call, Done&& done) {
  const auto start = Clock::now();
  while (!done()) {
    world_->progress();
    const auto waited = Clock::now() - start;
    if (!call.is_pair && waited > 50ms) {
      if (waited > world_->options.timeout / 2) roll_call_.announce(call.sequence);
      roll_call_.listen(call.sequence);
    }
    if (waited > world_->options.timeout) time_out(call);
    back_off(waited);
  }
}

void MpiCommunicator::await(const Call& call, std::span<MPI_Request> requests) {
  wait_until(call, [&] {
    int done = 0;
    check_mpi(
        MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done, MPI_STATUSES_IGNORE),
        call.operation);
    return done != 0;
  });
}

void MpiCommunicator::await(const Call& call, MpiReduction& reduction) {
  wait_until(call, [&] { return reduction.advance(); });
  world_->progress();  // forgets this one
}

void MpiCommunicator::time_out(const Call& call) const {
  std::string missing;
  if (call.is_pair) {
    missing = name_of_member(call.peer);
  } else {
    for (const int r : roll_call_.missing(call.sequence))
      missing += str(missing.empty() ? "" : ", ", name_of_member(r));
  }
  throw CollectiveTimeout(
      str(name_of_member(rank()), " in ", call.operation, " #", call.sequence, " on ", name(), " (",
          call.bytes, " bytes) waited ", world_->options.timeout.count(), " ms in vain for ",
          missing.empty() ? "the transfer, which all ranks have joined" : missing));
}

void MpiCommunicator::do_barrier(const Call& call) {
  const auto guard = watch(call);
  MPI_Request request = MPI_REQUEST_NULL;
  check_mpi(MPI_Ibarrier(comm_, &request), "MPI_Ibarrier");
  await(call, request);
}

std::shared_ptr<MpiReduction> MpiCommunicator::start(MpiReduction reduction) {
  world_->progress();  // MPI moves data only while it is called: look after the earlier ones
  return world_->in_flight.emplace_back(std::make_shared<MpiReduction>(std::move(reduction)));
}

void MpiCommunicator::do_all_reduce(const Call& call, const Tensor& tensor) {
  const auto guard = watch(call);
  await(call, *start(MpiReduction::all_reduce(group(), call, tensor)));
}

void MpiCommunicator::do_reduce_scatter(const Call& call, const Tensor& in, const Tensor& out) {
  const auto guard = watch(call);
  await(call, *start(MpiReduction::reduce_scatter(group(), call, in, out)));
}

std::function<void()> MpiCommunicator::do_start_all_reduce(const Call& call, const Tensor& tensor) {
  const auto guard = watch(call);
  return [this, call, reduction = start(MpiReduction::all_reduce(group(), call, tensor))] {
    const auto guard = watch(call);
    await(call, *reduction);
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
  FILIGREE_CHECK(color >= 0, "split of ", this->name(), " by color ", color);
  // MPI_Comm_split waits without moving our reductions on: enter it together, when nobody needs
  // them any more.
  do_barrier(call);
  const auto guard = watch(call);
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
