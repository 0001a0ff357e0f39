// The emulated NCCL: what its collectives compute, and what it finds wrong.
#include <nccl.h>

#include <algorithm>
#include <barrier>
#include <functional>
#include <memory>
#include <thread>
#include <type_traits>

#include "tests/simt/fixture.hpp"

namespace simt_test {
namespace {

struct Rank {
  int rank;
  ncclComm_t comm;
  ncclResult_t wait(ncclResult_t result) const {
    while (result == ncclInProgress) EXPECT_EQ(ncclCommGetAsyncError(comm, &result), ncclSuccess);
    return result;
  }
};

// What the threads of `ranks` ranks ended with: the message of a fault, or nothing.
std::vector<std::string> run_ranks(int ranks, int seed, const std::function<void(Rank)>& body,
                                   bool blocking = true, double timeout = 20) {
  simt::Options options = seeded(static_cast<std::uint64_t>(seed));
  options.devices = ranks;
  options.peer_timeout_seconds = timeout;
  simt::reset(options);
  ncclUniqueId id;
  EXPECT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  std::vector<std::string> faults(static_cast<std::size_t>(ranks));
  std::vector<std::thread> threads;
  std::barrier<> over(ranks);
  for (int r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      EXPECT_EQ(cudaSetDevice(r), cudaSuccess);
      Rank rank{r, nullptr};
      ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
      config.blocking = blocking ? 1 : 0;
      EXPECT_EQ(rank.wait(ncclCommInitRankConfig(&rank.comm, ranks, id, r, &config)), ncclSuccess);
      faults[static_cast<std::size_t>(r)] = fault_of([&] { body(rank); });
      over.arrive_and_wait();
      ncclCommAbort(rank.comm);
    });
  }
  for (std::thread& thread : threads) thread.join();
  return faults;
}

void expect_fault_everywhere(int ranks, const std::function<void(Rank)>& body,
                             const std::vector<std::string>& parts, double timeout = 20) {
  for (int seed = 0; seed < 4; ++seed) {
    for (const std::string& message : run_ranks(ranks, seed, body, true, timeout)) {
      for (const std::string& part : parts)
        EXPECT_NE(message.find(part), std::string::npos)
            << "seed " << seed << ": '" << message << "' lacks '" << part << "'";
    }
  }
}

std::vector<float> values_of(int rank, std::size_t n) {
  std::vector<float> values(n);
  for (std::size_t i = 0; i < n; ++i) values[i] = static_cast<float>((rank + 1) * 100) + i % 7;
  return values;
}

void check_collectives(Rank r, int ranks) {
  const auto n = static_cast<std::size_t>(ranks);
  constexpr std::size_t kCount = 37;
  Stream stream;
  const DeviceArray<float> in(values_of(r.rank, kCount * n), stream), sum(kCount * n), part(kCount),
      all(kCount * n);
  ASSERT_EQ(
      r.wait(ncclAllReduce(in.get(), sum.get(), kCount * n, ncclFloat32, ncclSum, r.comm, stream)),
      ncclSuccess);
  ASSERT_EQ(
      r.wait(ncclReduceScatter(in.get(), part.get(), kCount, ncclFloat32, ncclSum, r.comm, stream)),
      ncclSuccess);
  ASSERT_EQ(r.wait(ncclAllGather(part.get(), all.get(), kCount, ncclFloat32, r.comm, stream)),
            ncclSuccess);
  const auto sums = sum.read(stream), gathered = all.read(stream);
  for (std::size_t i = 0; i < sums.size(); ++i) {
    float expected = 0;
    for (int q = 0; q < ranks; ++q) expected += values_of(q, kCount * n)[i];
    ASSERT_EQ(sums[i], expected) << i;
    ASSERT_EQ(gathered[i], expected) << i;
  }
  const DeviceArray<float> root(values_of(r.rank, 5), stream), from_left(5);
  ASSERT_EQ(
      r.wait(ncclBroadcast(root.get(), root.get(), 5, ncclFloat32, ranks - 1, r.comm, stream)),
      ncclSuccess);
  ASSERT_EQ(root.read(stream), values_of(ranks - 1, 5));
  ASSERT_EQ(ncclGroupStart(), ncclSuccess);
  ASSERT_EQ(ncclSend(in.get(), 5, ncclFloat32, (r.rank + 1) % ranks, r.comm, stream), ncclSuccess);
  ASSERT_EQ(ncclRecv(from_left.get(), 5, ncclFloat32, (r.rank + ranks - 1) % ranks, r.comm, stream),
            ncclSuccess);
  ASSERT_EQ(r.wait(ncclGroupEnd()), ncclSuccess);
  ASSERT_EQ(from_left.read(stream), values_of((r.rank + ranks - 1) % ranks, 5));
}

TEST(Nccl, CollectivesInAnyStreamOrder) {
  for (const int ranks : {1, 2, 4}) {
    for (int seed = 0; seed < 3; ++seed) {
      for (const bool blocking : {true, false}) {
        const auto faults = run_ranks(
            ranks, seed, [&](Rank r) { check_collectives(r, ranks); }, blocking);
        for (const std::string& fault : faults) EXPECT_EQ(fault, "");
      }
    }
  }
}

TEST(Nccl, RefusesTwoRanksOnOneDevice) {
  simt::reset({.devices = 2});
  ncclUniqueId id;
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  std::vector<std::thread> threads;
  for (int r = 0; r < 2; ++r) {
    threads.emplace_back([&, r] {
      ncclComm_t comm = nullptr;
      EXPECT_EQ(cudaSetDevice(0), cudaSuccess);
      EXPECT_EQ(ncclCommInitRank(&comm, 2, id, r), ncclInvalidUsage);
      ncclCommAbort(comm);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

using Collective = std::function<void(Rank, float*, cudaStream_t)>;
std::function<void(Rank)> on_a_buffer(const Collective& collective) {
  return [collective](Rank r) {
    Stream stream;
    const DeviceArray<float> x(values_of(r.rank, 64), stream);
    collective(r, x.get(), stream);
    stream.synchronize();
    cudaDeviceSynchronize();
  };
}

void all_reduce(Rank r, float* x, std::size_t count, cudaStream_t stream,
                ncclDataType_t type = ncclFloat32, ncclRedOp_t op = ncclSum) {
  ncclAllReduce(x, x, count, type, op, r.comm, stream);
}

TEST(NcclFault, OtherCount) {
  expect_fault_everywhere(2, on_a_buffer([](Rank r, float* x, cudaStream_t stream) {
                            all_reduce(r, x, r.rank == 0 ? 64 : 63, stream);
                          }),
                          {"ranks disagree in the count of ncclAllReduce #1", "rank 0 calls",
                           "rank 1 calls", "of 64 ncclFloat32", "of 63 ncclFloat32"});
}

TEST(NcclFault, OtherType) {
  expect_fault_everywhere(2, on_a_buffer([](Rank r, float* x, cudaStream_t stream) {
                            all_reduce(r, x, 64, stream, r.rank == 0 ? ncclFloat32 : ncclInt32);
                          }),
                          {"ranks disagree in the type", "64 ncclFloat32", "64 ncclInt32"});
}

TEST(NcclFault, OtherReduction) {
  expect_fault_everywhere(2, on_a_buffer([](Rank r, float* x, cudaStream_t stream) {
                            all_reduce(r, x, 64, stream, ncclFloat32,
                                       r.rank == 0 ? ncclSum : ncclMax);
                          }),
                          {"ranks disagree in the reduction", "(ncclSum)", "(ncclMax)"});
}

TEST(NcclFault, OtherOrder) {
  expect_fault_everywhere(2, on_a_buffer([](Rank r, float* x, cudaStream_t stream) {
                            if (r.rank == 0) all_reduce(r, x, 64, stream);
                            ncclBroadcast(x, x, 64, ncclFloat32, 0, r.comm, stream);
                            if (r.rank == 1) all_reduce(r, x, 64, stream);
                          }),
                          {"ranks disagree in the operation", "ncclAllReduce", "ncclBroadcast"});
}

TEST(NcclFault, OtherRoot) {
  expect_fault_everywhere(2, on_a_buffer([](Rank r, float* x, cudaStream_t stream) {
                            ncclBroadcast(x, x, 64, ncclFloat32, r.rank, r.comm, stream);
                          }),
                          {"ranks disagree in the root", "from root 0", "from root 1"});
}

TEST(NcclFault, OtherCountOfASend) {
  expect_fault_everywhere(2, on_a_buffer([](Rank r, float* x, cudaStream_t stream) {
                            if (r.rank == 0)
                              ncclSend(x, 64, ncclFloat32, 1, r.comm, stream);
                            else
                              ncclRecv(x, 32, ncclFloat32, 0, r.comm, stream);
                          }),
                          {"ranks disagree in the count of", "rank 0 calls ncclSend of 64",
                           "rank 1 calls ncclRecv of 32"});
}

TEST(NcclFault, BothSendAndNobodyReceives) {
  const auto faults = run_ranks(2, 0, on_a_buffer([](Rank r, float* x, cudaStream_t stream) {
                                  ncclSend(x, 64, ncclFloat32, 1 - r.rank, r.comm, stream);
                                  ncclRecv(x, 64, ncclFloat32, 1 - r.rank, r.comm, stream);
                                }),
                                true, 0.2);
  // The second rank to give up sees what the first has left.
  EXPECT_TRUE(std::any_of(
      faults.begin(), faults.end(),
      [](const std::string& fault) { return fault.find("ncclSend #1") != std::string::npos; }))
      << faults[0] << "; " << faults[1];
  for (const std::string& fault : faults) EXPECT_NE(fault, "");
}

using Executable =
    std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, decltype(&cudaGraphExecDestroy)>;

// sum = twice the sum of x over ranks, captured once.
Executable captured_sum(Rank r, const float* x, float* sum, std::size_t count,
                        cudaStream_t stream) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  EXPECT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  for (int i = 0; i < 2; ++i)
    EXPECT_EQ(r.wait(ncclAllReduce(i == 0 ? x : sum, sum, count, ncclFloat32,
                                   i == 0 ? ncclSum : ncclMax, r.comm, stream)),
              ncclSuccess);
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  EXPECT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  return {executable, cudaGraphExecDestroy};
}

TEST(Nccl, CapturedCollectivesRunAgainAndAgain) {
  for (int seed = 0; seed < 4; ++seed) {
    for (const bool blocking : {true, false}) {
      const auto body = [](Rank r) {
        Stream stream;
        const DeviceArray<float> x(64), sum(64), other(values_of(r.rank, 64), stream);
        const Executable graph = captured_sum(r, x.get(), sum.get(), 64, stream);
        for (const float value : {1.0F, 5.0F}) {
          const std::vector<float> values(64, value + static_cast<float>(r.rank));
          ASSERT_EQ(cudaMemcpyAsync(x.get(), values.data(), 256, cudaMemcpyHostToDevice, stream),
                    cudaSuccess);
          ASSERT_EQ(cudaGraphLaunch(graph.get(), stream), cudaSuccess);
          // Between the launches, one that was not captured: they count on.
          ASSERT_EQ(r.wait(ncclAllReduce(other.get(), other.get(), 64, ncclFloat32, ncclMax, r.comm,
                                         stream)),
                    ncclSuccess);
          ASSERT_EQ(sum.read(stream), std::vector<float>(64, 2 * value + 1));
        }
      };
      for (const std::string& fault : run_ranks(2, seed, body, blocking)) EXPECT_EQ(fault, "");
    }
  }
}

TEST(NcclFault, CapturedCollectivesThatDisagree) {
  expect_fault_everywhere(
      2,
      [](Rank r) {
        Stream stream;
        const DeviceArray<float> x(values_of(r.rank, 64), stream), sum(64);
        const Executable graph = captured_sum(r, x.get(), sum.get(), r.rank == 0 ? 64 : 60, stream);
        cudaGraphLaunch(graph.get(), stream);
        cudaStreamSynchronize(stream);
        cudaDeviceSynchronize();
      },
      {"ranks disagree in the count of ncclAllReduce", "of 64 ncclFloat32", "of 60 ncclFloat32"});
}

TEST(Nccl, AnAbortIsNoticedWhereTheOptionSaysSo) {
  for (const bool noticed : {true, false}) {
    simt::Options options = seeded(1);
    options.devices = 2;
    options.aborts_are_noticed = noticed;
    simt::reset(options);
    ncclUniqueId id;
    ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
    std::barrier<> joined(2), aborted(2);
    const auto run = [&](int r) {
      EXPECT_EQ(cudaSetDevice(r), cudaSuccess);
      ncclComm_t comm = nullptr;
      EXPECT_EQ(ncclCommInitRank(&comm, 2, id, r), ncclSuccess);
      joined.arrive_and_wait();
      if (r == 1) ncclCommAbort(comm);
      aborted.arrive_and_wait();
      if (r == 1) return;
      ncclResult_t state = ncclSuccess;
      EXPECT_EQ(ncclCommGetAsyncError(comm, &state), ncclSuccess);
      EXPECT_EQ(state, noticed ? ncclRemoteError : ncclSuccess);
      ncclCommAbort(comm);
    };
    std::thread other([&] { run(1); });
    run(0);
    other.join();
  }
}

TEST(Nccl, AnErrorInAGroupIsThatOfItsEnd) {
  const auto faults = run_ranks(2, 0, [](Rank r) {
    Stream stream;
    const DeviceArray<float> x(8);
    ASSERT_EQ(ncclGroupStart(), ncclSuccess);
    ncclSend(x.get(), 8, ncclFloat32, 2, r.comm, stream);
    EXPECT_EQ(ncclGroupEnd(), ncclInvalidArgument);
    EXPECT_EQ(ncclGroupEnd(), ncclInvalidUsage);
  });
  for (const std::string& fault : faults) EXPECT_EQ(fault, "");
}

TEST(NcclFault, ARankThatNeverComes) {
  const auto faults = run_ranks(3, 0, on_a_buffer([](Rank r, float* x, cudaStream_t stream) {
                                  if (r.rank != 1) all_reduce(r, x, 64, stream);
                                }),
                                true, 0.2);
  EXPECT_EQ(faults[1], "");
  for (const int r : {0, 2}) {
    EXPECT_NE(faults[static_cast<std::size_t>(r)].find("for rank 1, which has not called it"),
              std::string::npos)
        << faults[static_cast<std::size_t>(r)];
  }
}

TEST(NcclFault, MissingEventWaitBeforeACollective) {
  if (!simt::sees_every_access()) GTEST_SKIP() << "AddressSanitizer instruments in this build";
  expect_fault_everywhere(2, on_a_buffer([](Rank r, float* x, cudaStream_t stream) {
                            Stream other;
                            cudaMemsetAsync(x, 0, 256, other);
                            all_reduce(r, x, 64, stream);
                            cudaDeviceSynchronize();
                          }),
                          {"race in device memory", "no event or stream orders it"});
}

TEST(NcclFault, BufferFreedWhileInUse) {
  expect_fault_everywhere(2,
                          [](Rank r) {
                            Stream stream, other;
                            float* x = nullptr;
                            ASSERT_EQ(cudaMallocAsync(&x, 256, stream), cudaSuccess);
                            ASSERT_EQ(cudaMemsetAsync(x, 0, 256, stream), cudaSuccess);
                            ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
                            all_reduce(r, x, 64, stream);
                            ASSERT_EQ(cudaFreeAsync(x, other), cudaSuccess);
                            cudaDeviceSynchronize();
                          },
                          {"of the 256 bytes"});
}

TEST(NcclFault, BufferOfTheHost) {
  expect_fault_everywhere(2,
                          [](Rank r) {
                            Stream stream;
                            float x[64] = {};
                            all_reduce(r, x, 64, stream);
                          },
                          {"a buffer is not device memory"});
}

}  // namespace
}  // namespace simt_test
