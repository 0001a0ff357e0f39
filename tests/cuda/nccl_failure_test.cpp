// How the NCCL communicator refuses and fails: what goes wrong is planted in the emulator.
#include "parallel/nccl_communicator.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <thread>

#include "tests/cuda/gpu_ranks.hpp"

namespace filigree::testing {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

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

TEST(NcclCommunicator, RefusesWhatItDoesNotReach) {
  fresh_gpus(2, 0);
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
  fresh_gpus(2, 3);
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
  fresh_gpus(2, 3);
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
  fresh_gpus(2, 7);
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
  fresh_gpus(3, 4);
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
  fresh_gpus(4, 5);
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
  fresh_gpus(2, 6, true);
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
    fresh_gpus(2, seed);
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
  fresh_gpus(4, 0);
  for (int rank = 0; rank < 4; ++rank) EXPECT_EQ(gpu_of_local_rank(rank, 4), rank);
  fresh_gpus(1, 0);
  EXPECT_EQ(gpu_of_local_rank(3, 4), 0) << "the launcher may show each rank another one";
  fresh_gpus(2, 0);
  expect_contains(message_of<UserError>([] { gpu_of_local_rank(0, 4); }),
                  {"4 ranks run on this host, which shows them 2 GPUs; start one rank for each "
                   "GPU; NCCL 2.30 and newer (this is 2.28.9) share one with "
                   "NCCL_MULTI_RANK_GPU_ENABLE=1"});
}

TEST(OneRankPerGpu, TwoOnOneAreRefused) {
  fresh_gpus(3, 0);
  const auto body = [](const World& host) {
    const ExecutionContext context = make_cuda_context(host->rank() / 2);
    nccl_communicator(host, context, 5s);
  };
  expect_contains(message_of<UserError>([&] { run_ranks(3, body); }),
                  {"ranks 0 and 1 on ", " use the same GPU (0000:01:00); start one rank for each"});
}

}  // namespace
}  // namespace filigree::testing
