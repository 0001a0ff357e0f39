// The NCCL communicator, with ranks as threads that have an emulated GPU each.
#include "parallel/nccl_communicator.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <simt/launch.hpp>
#include <thread>

#include "kernels/elementwise/elementwise.hpp"
#include "parallel/mesh.hpp"
#include "parallel/run_ranks.hpp"
#include "runtime/cuda/cuda_device.hpp"
#include "tests/parallel/parallel_checks.hpp"

namespace filigree::testing {
namespace {

using namespace std::chrono_literals;
using World = std::shared_ptr<Communicator>;
using Clock = std::chrono::steady_clock;

void reset(int gpus, std::uint64_t seed, bool aborts_are_noticed = false) {
  simt::Options options;
  options.seed = seed;
  options.devices = gpus;
  options.aborts_are_noticed = aborts_are_noticed;
  simt::reset(options);
}

struct GpuRank {
  World host;
  ExecutionContext context;
  World world;
  int rank() const { return world->rank(); }
};

// Runs `body` on one thread and one GPU per rank.
void run_gpu_ranks(int ranks, const std::function<void(GpuRank&)>& body,
                   std::chrono::milliseconds timeout = 20s) {
  run_ranks(ranks, [&](const World& host) {
    GpuRank rank{host, make_cuda_context(gpu_of_local_rank(host->rank(), ranks)), nullptr};
    rank.world = nccl_communicator(host, rank.context, timeout);
    body(rank);
  });
}

// Carries what the checks give it, host tensors, by way of the GPU.
class ByGpu final : public Communicator {
 public:
  ByGpu(World inner, const ExecutionContext& context)
      : Communicator(inner->rank(), inner->size(), inner->name()),
        inner_(std::move(inner)),
        context_(context) {}
  void abort(const std::string& reason) noexcept override { inner_->abort(reason); }

 protected:
  void do_barrier(const Call&) override { inner_->barrier(); }
  void do_all_reduce(const Call& call, const Tensor& tensor) override {
    const Tensor there = context_.upload(tensor);
    inner_->all_reduce(there, *call.reduce);
    bring_back(there, tensor);
  }
  void do_all_gather(const Call&, const Tensor& in, const Tensor& out) override {
    const Tensor there = context_.upload(out);
    inner_->all_gather(part(in, out, there), there);
    bring_back(there, out);
  }
  void do_reduce_scatter(const Call&, const Tensor& in, const Tensor& out) override {
    const Tensor there = context_.upload(in), sum = part(out, in, there);
    inner_->reduce_scatter(there, sum);
    bring_back(sum, out);
  }
  void do_all_to_all(const Call&, const Tensor& in, const Tensor& out) override {
    const Tensor there = context_.upload(out);
    inner_->all_to_all(context_.upload(in), there);
    bring_back(there, out);
  }
  void do_broadcast(const Call& call, const Tensor& tensor) override {
    const Tensor there = context_.upload(tensor);
    inner_->broadcast(there, call.peer);
    bring_back(there, tensor);
  }
  void do_send(const Call& call, const Tensor& tensor) override {
    inner_->send(context_.upload(tensor), call.peer);
  }
  void do_receive(const Call& call, const Tensor& tensor) override {
    const Tensor there = context_.upload(tensor);
    inner_->receive(there, call.peer);
    bring_back(there, tensor);
  }
  std::function<void()> do_start_all_reduce(const Call& call, const Tensor& tensor) override {
    const Tensor there = context_.upload(tensor);
    auto pending = std::make_shared<Pending>(inner_->start_all_reduce(there, *call.reduce));
    return [this, pending, there, tensor] {
      pending->wait();
      bring_back(there, tensor);
    };
  }
  std::unique_ptr<Communicator> do_split(const Call&, int color, int key,
                                         const std::string& name) override {
    World group = inner_->split(color, key, name);
    if (group->size() == 1) return self_communicator(name);
    return std::make_unique<ByGpu>(std::move(group), context_);
  }

 private:
  void bring_back(const Tensor& there, const Tensor& tensor) const {
    tensor.copy_from(context_.download(there));
  }
  // The GPU's copy of `part`: inside that of `whole` where it lies there on the host.
  Tensor part(const Tensor& part, const Tensor& whole, const Tensor& whole_there) const {
    const std::int64_t begin = rank() * part.numel();
    const bool inside = whole.numel() > 0 && part.raw() == whole.flat(begin, part.shape()).raw();
    return inside ? whole_there.flat(begin, part.shape()) : context_.upload(part);
  }

  World inner_;
  ExecutionContext context_;
};

// All but the one that asks for rank order, which NCCL does not promise.
std::vector<ParallelCheck> checks() {
  std::vector<ParallelCheck> all;
  for (const auto& group : {collective_checks(), derivative_checks(), reducer_checks()})
    for (const ParallelCheck& check : group)
      if (std::string(check.name) != "SumsAreInRankOrder") all.push_back(check);
  return all;
}

class NcclRanks : public ::testing::TestWithParam<std::tuple<ParallelCheck, int>> {};

TEST_P(NcclRanks, Holds) {
  const auto& [check, ranks] = GetParam();
  reset(ranks, static_cast<std::uint64_t>(ranks));
  run_gpu_ranks(
      ranks, [&](GpuRank& rank) { check.body(std::make_shared<ByGpu>(rank.world, rank.context)); });
}

INSTANTIATE_TEST_SUITE_P(Checks, NcclRanks,
                         ::testing::Combine(::testing::ValuesIn(checks()),
                                            ::testing::Values(2, 3, 4)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param).name) + "On" +
                                  std::to_string(std::get<1>(info.param));
                         });

template <class Error>
std::string message_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing of this type was thrown";
  return "";
}

void expect_contains(const std::string& text, const std::vector<std::string>& parts) {
  for (const std::string& part : parts)
    EXPECT_NE(text.find(part), std::string::npos) << part << " not in: " << text;
}

Tensor filled(const GpuRank& rank, std::int64_t count, float value) {
  const Tensor host = Tensor::empty({count}, DType::f32);
  for (float& element : host.span<float>()) element = value;
  return rank.context.upload(host);
}

Tensor doubled(GpuRank& rank, const Tensor& x) {
  const Tensor y = rank.context.empty(x.shape(), x.dtype());
  dispatch<Add>({x, x, y}, rank.context);
  return y;
}

// Every value of a tensor of this rank's GPU, which are all the same.
float value_of(const GpuRank& rank, const Tensor& x) {
  const Tensor host = rank.context.download(x);
  for (const float value : host.span<float>()) EXPECT_EQ(value, host.span<float>().front());
  return host.span<float>().front();
}

TEST(NcclCommunicator, RunsBetweenEarlierAndLaterWork) {
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    reset(2, seed);
    run_gpu_ranks(2, [](GpuRank& rank) {
      const Tensor sum = doubled(rank, filled(rank, 300, static_cast<float>(rank.rank() + 1)));
      rank.world->all_reduce(sum);
      EXPECT_EQ(value_of(rank, doubled(rank, sum)), 12.0F);
    });
  }
}

TEST(NcclCommunicator, StartedSumsLetOtherWorkGoOn) {
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    reset(2, seed);
    run_gpu_ranks(2, [](GpuRank& rank) {
      Tensor first = filled(rank, 300, 1.0F), second = filled(rank, 300, 2.0F);
      Pending one = rank.world->start_all_reduce(first);
      Pending other = rank.world->start_all_reduce(second, ReduceOp::max);
      const Tensor beside = doubled(rank, filled(rank, 300, 5.0F));
      other.wait();
      EXPECT_EQ(value_of(rank, doubled(rank, second)), 4.0F);
      one.wait();
      EXPECT_EQ(value_of(rank, doubled(rank, first)), 4.0F);
      EXPECT_EQ(value_of(rank, beside), 10.0F);
    });
  }
}

// A block that is free again may be written while the sum is on its way: not before it has read.
TEST(NcclCommunicator, MemoryIsUsedAgainOnlyBehindTheOperation) {
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    reset(2, seed);
    run_gpu_ranks(2, [](GpuRank& rank) {
      const Tensor all = filled(rank, 600, 0.0F);
      rank.world->all_gather(doubled(rank, filled(rank, 300, 1.0F)), all);
      const Tensor next = doubled(rank, filled(rank, 300, 7.0F));  // in the same block
      EXPECT_EQ(value_of(rank, all), 2.0F);
      EXPECT_EQ(value_of(rank, next), 14.0F);
    });
  }
}

// A sum of what the first operation leaves, between work before and behind it.
std::unique_ptr<CapturedWork> captured_sum(GpuRank& rank, const Tensor& x) {
  Stream& stream = *rank.context.stream;
  stream.begin_capture();
  dispatch<Scale>({.x = x, .y = x, .factor = 2.0}, rank.context);
  Pending sum = rank.world->start_all_reduce(x);
  sum.wait();
  dispatch<Scale>({.x = x, .y = x, .factor = 0.5}, rank.context);
  return stream.end_capture();
}

TEST(NcclCommunicator, IsCapturedAndLaunchedAgain) {
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    reset(2, seed);
    run_gpu_ranks(2, [](GpuRank& rank) {
      const Tensor x = filled(rank, 300, static_cast<float>(rank.rank() + 1));
      const auto work = captured_sum(rank, x);
      for (const float expected : {3.0F, 6.0F, 12.0F}) {
        work->launch(*rank.context.stream);
        rank.world->watch_launched("captured sum");
        EXPECT_EQ(value_of(rank, x), expected);
      }
      rank.world->all_reduce(x);
      EXPECT_EQ(value_of(rank, x), 24.0F);
    });
  }
}

TEST(NcclCommunicator, IsLeftInOrderWithWorkOnItsWay) {
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    reset(2, seed);
    run_gpu_ranks(2, [](GpuRank& rank) {
      const Tensor sum = filled(rank, 300, 3.0F);
      rank.world->all_reduce(sum);
      rank.world.reset();
      EXPECT_EQ(value_of(rank, sum), 6.0F);
    });
  }
}

TEST(NcclCommunicator, HostTensorsAreAddedInRankOrder) {
  reset(3, 1);
  run_gpu_ranks(3, [](GpuRank& rank) {
    for (const ParallelCheck& check : collective_checks())
      if (std::string(check.name) == "SumsAreInRankOrder") check.body(rank.world);
  });
}

TEST(NcclCommunicator, OrdersOfTheEmulatorChangeNoBits) {
  std::vector<Tensor> sums;
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    reset(4, seed);
    std::vector<Tensor> by_rank(4);
    run_gpu_ranks(4, [&](GpuRank& rank) {
      const Tensor sum = rank.context.upload(
          random_tensor({1001}, DType::f32, static_cast<std::uint64_t>(rank.rank())));
      rank.world->all_reduce(sum);
      by_rank[static_cast<std::size_t>(rank.rank())] = rank.context.download(sum);
    });
    sums.insert(sums.end(), by_rank.begin(), by_rank.end());
  }
  for (const Tensor& sum : sums)
    EXPECT_EQ(std::memcmp(sum.raw(), sums.front().raw(), static_cast<std::size_t>(sum.bytes())), 0);
}

TEST(NcclCommunicator, RefusesWhatItDoesNotReach) {
  reset(2, 0);
  run_gpu_ranks(2, [](GpuRank& rank) {
    const ExecutionContext other = make_cuda_context(1 - rank.rank());
    const Tensor elsewhere = other.empty({4}, DType::f32);
    const std::string gpu = str("GPU ", 1 - rank.rank());
    expect_contains(message_of<InternalError>([&] { rank.world->all_reduce(elsewhere); }),
                    {"all_reduce on world: the tensor is on " + gpu +
                     ", which this communicator does not reach"});
    expect_contains(message_of<InternalError>([&] { rank.host->all_reduce(elsewhere); }),
                    {"the tensor is on " + gpu});
    const Tensor out = Tensor::empty({8}, DType::f32);
    expect_contains(message_of<InternalError>(
                        [&] { rank.world->all_gather(rank.context.empty({4}, DType::f32), out); }),
                    {"all_gather between the host and GPU"});
    rank.world->barrier();
  });
}

// Rank 1 leaves rank 0 alone in an operation of which nobody but the watch can know.
TEST(NcclFailure, TimeoutNamesRankOperationAndTheOther) {
  reset(2, 3);
  std::atomic<bool> over = false;
  std::string told;
  const auto body = [&](GpuRank& rank) {
    const Tensor x = filled(rank, 10, 1.0F);
    rank.world->all_reduce(x);
    if (rank.rank() == 1) {
      while (!over) std::this_thread::sleep_for(1ms);
      told = message_of<PeerFailed>([&] {
        const auto deadline = Clock::now() + 5s;
        while (Clock::now() < deadline) {
          rank.world->throw_if_aborted();
          std::this_thread::sleep_for(1ms);
        }
      });
      return;
    }
    rank.world->all_reduce(x);
    rank.context.download(x);  // comes back, since the watch has aborted
    try {
      rank.world->barrier();
    } catch (const CollectiveTimeout&) {
      over = true;
      throw;
    }
  };
  const auto start = Clock::now();
  expect_contains(message_of<CollectiveTimeout>([&] { run_gpu_ranks(2, body, 200ms); }),
                  {"rank 0 on ",
                   ", GPU 0, in all_reduce #2 on world (40 bytes) waited 200 ms in "
                   "vain for rank 1"});
  expect_contains(told, {"rank 0 failed: rank 0 on "});
  EXPECT_LT(Clock::now() - start, 10s);
}

// One rank launches what it has captured, the other one does not.
TEST(NcclFailure, TimeoutOfCapturedWorkNamesIt) {
  reset(2, 3);
  const auto body = [&](GpuRank& rank) {
    const Tensor x = filled(rank, 10, 1.0F);
    const auto work = captured_sum(rank, x);
    for (int launches = 0; launches < (rank.rank() == 0 ? 2 : 1); ++launches) {
      work->launch(*rank.context.stream);
      rank.world->watch_launched("captured sum");
      rank.context.download(x);  // comes back, since the watch has aborted
    }
    if (rank.rank() == 0) rank.world->throw_if_aborted();
    rank.host->barrier();
  };
  const auto start = Clock::now();
  expect_contains(message_of<CollectiveTimeout>([&] { run_gpu_ranks(2, body, 200ms); }),
                  {"rank 0 on ", ", GPU 0, in captured sum #3 on world",
                   " waited 200 ms in vain for ", "rank 1"});
  EXPECT_LT(Clock::now() - start, 10s);
}

// NCCL ends no communicator while a graph has work of it, or while another one keeps the GPU busy.
TEST(NcclFailure, OfAnAxisInCapturedWorkEndsAllOfTheWorld) {
  reset(2, 7);
  const auto body = [&](GpuRank& rank) {
    const Mesh mesh(rank.world, {.data = 2});
    const Tensor x = filled(rank, 10, 1.0F);
    Stream& stream = *rank.context.stream;
    stream.begin_capture();
    mesh.on(Axis::data).all_reduce(x);
    mesh.world().all_reduce(x);
    const auto work = stream.end_capture();
    if (rank.rank() == 1) return rank.host->barrier();
    work->launch(stream);
    mesh.world().watch_launched("captured sums");
    rank.context.download(x);  // comes back, since the watch has aborted
    mesh.world().throw_if_aborted();
  };
  const auto start = Clock::now();
  expect_contains(message_of<CollectiveTimeout>([&] { run_gpu_ranks(2, body, 200ms); }),
                  {"in captured sums #", " on world", " waited 200 ms in vain for "});
  EXPECT_LT(Clock::now() - start, 10s);
}

TEST(NcclFailure, OfAPairNamesThePeer) {
  reset(3, 4);
  const auto body = [&](GpuRank& rank) {
    const Mesh mesh(rank.world, {.data = 3});
    if (rank.rank() != 2) return;
    const Tensor x = filled(rank, 10, 1.0F);
    mesh.on(Axis::data).receive(x, 1);
    rank.context.download(x);
    mesh.on(Axis::data).throw_if_aborted();
  };
  expect_contains(
      message_of<CollectiveTimeout>([&] { run_gpu_ranks(3, body, 300ms); }),
      {"rank 2 on ", "in receive #1 on data (40 bytes) waited 300 ms in vain for rank 1"});
}

TEST(NcclFailure, OfOneRankFreesTheOthersAndIsRethrown) {
  reset(4, 5);
  std::atomic<int> freed = 0;
  const auto start = Clock::now();
  const auto body = [&](GpuRank& rank) {
    const Mesh mesh(rank.world, {.data = 2, .tensor = 2});
    const Tensor x = filled(rank, 10, 1.0F);
    rank.world->barrier();
    if (rank.rank() == 2) throw UserError("shard 7 is truncated");
    try {
      // Its neighbours on both axes, and rank 1, which waits for another waiting rank.
      mesh.on(rank.rank() == 0 ? Axis::data : Axis::tensor).all_reduce(x);
      rank.context.download(x);
      mesh.on(Axis::tensor).all_reduce(x);
    } catch (const PeerFailed& error) {
      EXPECT_EQ(error.rank(), 2);
      expect_contains(error.what(), {"rank 2 failed: shard 7 is truncated"});
      EXPECT_THROW(mesh.world().barrier(), PeerFailed);
      EXPECT_THROW(mesh.world().split(0, 0, "late"), PeerFailed);
      ++freed;
      throw;
    }
  };
  EXPECT_EQ(message_of<UserError>([&] { run_gpu_ranks(4, body, 60s); }), "shard 7 is truncated");
  EXPECT_EQ(freed, 3);
  EXPECT_LT(Clock::now() - start, 20s);
}

TEST(NcclFailure, WhatNcclReportsLaterIsTheErrorOfTheNextOperation) {
  reset(2, 6, true);
  std::atomic<bool> over = false;
  const auto body = [&](GpuRank& rank) {
    rank.host->barrier();  // both have begun
    if (rank.rank() == 1) {
      EXPECT_THROW(
          {
            const World leaves = std::exchange(rank.world, nullptr);
            throw UserError("out of disk space");
          },
          UserError);
      while (!over) std::this_thread::sleep_for(1ms);
      return;
    }
    const Tensor x = filled(rank, 10, 1.0F);
    try {
      rank.world->all_reduce(x);
      rank.context.download(x);
      rank.world->barrier();
    } catch (const PeerFailed&) {
      over = true;
      throw;
    }
  };
  expect_contains(message_of<PeerFailed>([&] { run_gpu_ranks(2, body, 60s); }),
                  {"rank 0 on ",
                   "in all_reduce #1 on world (40 bytes): NCCL says 'remote process "
                   "exited or there was a network error'"});
}

TEST(NcclFailure, RanksThatDisagreeAreNoticedByTheEmulator) {
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    reset(2, seed);
    const auto body = [&](GpuRank& rank) {
      const Tensor x = filled(rank, rank.rank() == 0 ? 10 : 12, 1.0F);
      rank.world->all_reduce(x);
      rank.context.download(x);
    };
    expect_contains(
        message_of<std::exception>([&] { run_gpu_ranks(2, body); }),
        {"ranks disagree in the count of ncclAllReduce", "of 10 ncclFloat32", "of 12 ncclFloat32"});
  }
}

TEST(OneRankPerGpu, IsChosenByLocalRank) {
  reset(4, 0);
  for (int rank = 0; rank < 4; ++rank) EXPECT_EQ(gpu_of_local_rank(rank, 4), rank);
  reset(1, 0);
  EXPECT_EQ(gpu_of_local_rank(3, 4), 0) << "the launcher may show each rank another one";
  reset(2, 0);
  expect_contains(message_of<UserError>([] { gpu_of_local_rank(0, 4); }),
                  {"4 ranks run on this host, which shows them 2 GPUs; start one rank for each "
                   "GPU; NCCL 2.30 and newer (this is 2.28.9) share one with "
                   "NCCL_MULTI_RANK_GPU_ENABLE=1"});
}

TEST(OneRankPerGpu, TwoOnOneAreRefused) {
  reset(3, 0);
  const auto body = [](const World& host) {
    const ExecutionContext context = make_cuda_context(host->rank() / 2);
    nccl_communicator(host, context, 5s);
  };
  expect_contains(message_of<UserError>([&] { run_ranks(3, body); }),
                  {"ranks 0 and 1 on ", " use the same GPU (0000:01:00); start one rank for each"});
}

TEST(OneRankPerGpu, AWorldOfOneNeedsNoNccl) {
  reset(1, 0);
  run_gpu_ranks(1, [](GpuRank& rank) {
    const Tensor x = filled(rank, 10, 2.0F);
    rank.world->all_reduce(x);
    EXPECT_EQ(value_of(rank, x), 2.0F);
  });
}

}  // namespace
}  // namespace filigree::testing
